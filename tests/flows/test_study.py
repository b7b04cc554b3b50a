"""What a study does around its trials: what it keeps of itself, the best one against the recipe with fresh seeds, and
the models that are scored on the test split. The trials' runs are made up."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from conf.load import validate
from conf.recipe import Recipe
from conf.report.study import StudyTrial
from conf.trials import load_study
from flows import study as module
from flows.study import FRONT, Studying
from tasks.launch.errors import JobFailed
from tasks.report.model import ReportModel
from tasks.store.store import Store
from tests.fixtures.studies import STUDY, space_of

TWO = "study.objectives=[{model: depth}, {model: depth-pruned}]"


class Ended:
    """A trial's run that has ended: its value of every objective, or why it failed."""

    def __init__(self, folder: Path, name: str, value: float, failed: str | None) -> None:
        self.folder, self.name, self.one, self.failed = folder, name, value, failed

    def failure(self) -> str | None:
        """Why it failed."""
        return self.failed

    def values(self, objectives: tuple[Any, ...]) -> tuple[float, ...]:
        """Its value of each."""
        return (self.one,) * len(objectives)

    def scored(self, model: str, name: str) -> ReportModel:
        """A model with two test sequences, of which the second costs twice as much."""
        scores = self.folder / self.name
        scores.mkdir(parents=True, exist_ok=True)
        (scores / "sequences.json").write_text(json.dumps({"val_loss": [self.one, 2 * self.one]}))
        (scores / "answers.jsonl").write_text("")
        return ReportModel(
            model=name, stage="distill", student="depth", format=None, path=model, scores=str(scores), training=None
        )


class Trials:
    """In place of `Shared`: notes what is submitted. `values` and `failed` are by mark."""

    def __init__(self, folder: Path, values: dict[str, float], failed: dict[str, str]) -> None:
        self.folder, self.values, self.failed = folder, values, failed
        self.asked: dict[str, Recipe] = {}
        self.above: dict[str, str] = {}

    def trial(self, recipe: Recipe, mark: str, above: str, begun: Any = None) -> Ended:
        """A run that has ended."""
        self.asked[mark], self.above[mark] = recipe, above
        return Ended(self.folder, mark or "recipe", self.values.get(mark, 3.0), self.failed.get(mark))


def studying(root: Path, *overrides: str, values: Any = None, failed: Any = None) -> tuple[Studying, Trials, list[str]]:
    told: list[str] = []
    tracker = SimpleNamespace(trial=lambda name, _: told.append(name), trial_ended=lambda *_: None)
    launcher = SimpleNamespace(prepare=lambda: told.append("prepared"))
    session: Any = SimpleNamespace(name="s", store=Store(root), launcher=launcher, tracker=tracker)
    made = Studying(session, space_of(root, *overrides))
    trials = Trials(root, values or {}, failed or {})
    made.shared = trials  # type: ignore[assignment]
    return made, trials, told


def done(number: int, *values: float, **more: Any) -> StudyTrial:
    point = {"distill.lr": number * 1e-3, "distill.steps": 4}
    return StudyTrial(number=number, round=1, point=point, values=values or None, tokens=1, **more)


def test_fresh_seeds_teach_the_best_and_the_recipe(tmp_path: Path) -> None:
    values = {"t2-s1": 2.0, "t2-s2": 2.5, "s1": 3.0, "s2": 4.0}
    values |= {"t2-s1-test": 2.0, "t2-s2-test": 3.0, "s1-test": 4.0, "s2-test": 4.0}
    made, trials, told = studying(tmp_path, values=values)
    fresh, sentence = made._fresh([done(1, 2.2), done(2, 1.5), done(3)], (3.0,))
    assert fresh is not None and sentence == ""
    assert (fresh.seeds, fresh.trial, fresh.recipe) == (2, (2.0, 2.5), (3.0, 4.0))
    assert fresh.luck == pytest.approx(0.75), "it had 1.5, and 2.25 with fresh seeds"
    assert fresh.difference == pytest.approx(-(2 + 4 + 1 + 2) / 4), "by seed and sequence"
    recipes = trials.asked
    assert recipes.keys() == values.keys()
    seeds = {mark: recipe.students["depth"].distill or recipe.distill for mark, recipe in recipes.items()}
    given = {mark: (distill.seed, distill.lr) for mark, distill in seeds.items() if distill}
    assert given["t2-s1"] == given["t2-s1-test"] != given["t2-s2"]
    assert given["t2-s1"][1] == 2e-3 and given["s1"][1] == 1e-4
    assert given["s1"][0] == given["t2-s1"][0] and given["s2"][0] == given["t2-s2"][0]
    assert {recipe.evaluate.split for mark, recipe in recipes.items() if mark.endswith("-test")} == {"test"}
    assert {recipe.evaluate.split for mark, recipe in recipes.items() if not mark.endswith("-test")} == {"validation"}
    assert told.count("prepared") == 1 and trials.above["s2"] == trials.above["s2-test"] == "recipe-s2"


@pytest.mark.parametrize(
    ("override", "trials", "first", "part"),
    [
        ("study.seeds=2", [done(1)], 3.0, "part of its lead may be luck"),
        ("study.seeds=0", [done(1, 2.0)], 3.0, "part of its lead may be luck"),
        ("study.seeds=2", [done(1, 3.0), done(2, 4.0)], 3.0, "No trial is better than the recipe as it is."),
    ],
)
def test_fresh_seeds_need_a_trial_that_leads(
    override: str, trials: list[StudyTrial], first: float, part: str, tmp_path: Path
) -> None:
    made, asked, _ = studying(tmp_path, override)
    fresh, sentence = made._fresh(trials, (first,))
    assert fresh is None and part in sentence and not asked.asked


def test_fresh_seeds_of_a_recipe_that_failed_are_compared(tmp_path: Path) -> None:
    made, _, _ = studying(tmp_path)
    assert made._fresh([done(1, 9.0)], None)[0] is not None


@pytest.mark.parametrize("mark", ["t1-s2", "s1-test"])
def test_a_fresh_seed_that_fails_is_told(mark: str, tmp_path: Path) -> None:
    made, _, _ = studying(tmp_path, failed={mark: "it diverged"})
    fresh, sentence = made._fresh([done(1, 2.0)], (3.0,))
    name = {"t1-s2": "t1-s2", "s1-test": "recipe-s1"}[mark]
    assert fresh is None and sentence.endswith(f"because {name} failed: it diverged")


def test_the_best_and_the_recipe_are_scored_on_the_test_split(tmp_path: Path) -> None:
    made, trials, told = studying(tmp_path, values={"t2-test": 1.0})
    models = made._models((done(1, 3.0), done(2, 1.0)), 2, True)
    assert [(model.model, model.path) for model in models] == [("depth", "depth"), ("depth-t2", "depth")]
    assert [Path(model.scores).name for model in models] == ["test", "t2-test"]
    assert {recipe.evaluate.split for recipe in trials.asked.values()} == {"test"}
    assert trials.above == {"test": "recipe", "t2-test": "t2"} and told == ["recipe", "prepared", "t2"]
    assert [model.model for model in made._models((done(1, 3.0),), 1, False)] == ["depth-t1"]


def test_the_models_of_a_front_are_scored(tmp_path: Path) -> None:
    made, _, _ = studying(tmp_path, TWO, "study.seeds=null")
    front = tuple(done(number, 1.0, 2.0, on_front=number != 2) for number in range(1, FRONT + 4))
    models = [model.model for model in made._models(front, None, False)]
    assert models[:4] == ["depth-t1", "depth-pruned-t1", "depth-t3", "depth-pruned-t3"]
    assert len(models) == 2 * FRONT and models[-1] == f"depth-pruned-t{FRONT + 1}"


def test_scores_on_the_test_split_that_fail_end_the_study(tmp_path: Path) -> None:
    made, _, _ = studying(tmp_path, failed={"t1-test": "out of memory"})
    with pytest.raises(JobFailed, match="the scores of t1 on the test split failed: out of memory") as caught:
        made._models((done(1, 3.0),), 1, True)
    assert caught.value.reason == "mistake"


def test_a_study_keeps_its_recipe_before_and_after(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[Any] = []
    tracker = SimpleNamespace(report=lambda folder: told.append(("tracked", folder)))
    session: Any = SimpleNamespace(store=Store(tmp_path), tracker=tracker)
    monkeypatch.setattr(module, "open_session", lambda *_: contextlib.nullcontext(session))
    monkeypatch.setattr(module.run_info, "keep", lambda folder, *_, ended: told.append((ended, folder)))
    monkeypatch.setattr(module, "page", SimpleNamespace(markdown=lambda *_: "", cells=lambda _: []))
    monkeypatch.setattr(module.prefect_pages, "publish", lambda *_: told.append("published"))
    monkeypatch.setattr(module.prefect_pages, "ended", lambda folder, _: folder)
    run = SimpleNamespace(rows=())
    monkeypatch.setattr(
        module, "Studying", lambda *_: SimpleNamespace(run=lambda at: (told.append(("run", at)), run)[1])
    )
    folder = tmp_path / "runs" / "first"
    assert module.run_study(load_study(str(STUDY), []), "first", tmp_path, LOCAL) == str(folder)
    assert told == [(False, folder), ("run", folder), (True, folder), ("tracked", folder), "published"]


def test_a_form_gives_a_study_what_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = load_study(str(STUDY), [])
    given: list[Any] = []
    monkeypatch.setattr(module, "run_study", lambda *each: given.append(each) or "folder")
    monkeypatch.setattr(module.prefect_pages, "tag", lambda *_: None)
    for recipe in (values, validate(values)):
        assert module.study.fn(name="first", store=str(tmp_path), recipe=recipe) == "folder"
    assert [each[0].keys() for each in given] == [values.keys()] * 2
    assert given[1][0]["distill"].keys() == values["distill"].keys()


@pytest.mark.parametrize(("override", "fresh"), [("study.seeds=2", 1), (TWO, 0)])
def test_a_study_of_one_objective_has_fresh_seeds(
    override: str, fresh: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, _, _ = studying(tmp_path, override, "study.seeds=null")
    values = (1.0, 2.0)[: len(made.study.objectives)]
    asked: list[Any] = []
    made.session.stages = {}  # type: ignore[misc]
    monkeypatch.setattr(made, "_rounds", lambda _: ([done(1, *values)], "it is spent", values))
    monkeypatch.setattr(made, "_fresh", lambda *_: asked.append("fresh") or (None, "not taught again"))
    monkeypatch.setattr(module, "describe", lambda _: None)
    monkeypatch.setattr(module.report, "write_study", lambda folder, found, about, models, *_: (found, models))
    found, models = made.run(tmp_path)
    assert len(asked) == fresh and found.recipe_values == values
    names = ["depth"] if fresh else ["depth", "depth-pruned"]
    assert [model.model for model in models] == [*names, *(f"{name}-t1" for name in names)]


def test_a_study_whose_trials_all_failed_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, _, _ = studying(tmp_path)
    monkeypatch.setattr(made, "_rounds", lambda _: ([done(1, failed="no memory")], "it is spent", None))
    with pytest.raises(JobFailed, match="all 1 trials of the study failed") as caught:
        made.run(tmp_path)
    assert caught.value.reason == "mistake"


def test_seeds_need_something_that_is_taught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, asked, _ = studying(tmp_path)
    untaught = made.space.recipe.model_copy(update={"distill": None})
    monkeypatch.setattr(made.space, "of", lambda *_, **__: untaught)
    fresh, sentence = made._fresh([done(1, 2.0)], (3.0,))
    assert fresh is None and sentence.startswith("Nothing is taught in this recipe") and not asked.asked


def test_rounds_go_on_from_what_trials_and_the_recipe_gave(tmp_path: Path) -> None:
    made, trials, _ = studying(tmp_path, values={"t1": 2.0, "t3": 1.0, "t4": 5.0}, failed={"t2": "no memory"})
    ended: list[tuple[str, Any, Any]] = []
    made.session.tracker.trial_ended = lambda *given: ended.append(given)  # type: ignore[method-assign]
    found, why, first = made._rounds(made._submit({}, "", "recipe"))
    assert [(trial.number, trial.round, trial.values, trial.failed) for trial in found[:4]] == [
        *((1, 1, (2.0,), None), (2, 1, None, "no memory"), (3, 1, (1.0,), None), (4, 2, (5.0,), None))
    ]
    assert len(found) == 6 and first == (3.0,) and why == "its budget of 6 trials is spent"
    names = [name for name, *_ in ended]
    assert names[:2] == ["recipe", "t1"] and names.count("recipe") == 1, "the recipe's is known with the first round"
    seeds = {recipe.distill.seed for recipe in trials.asked.values() if recipe.distill}
    assert seeds == {made.space.recipe.distill and made.space.recipe.distill.seed}
