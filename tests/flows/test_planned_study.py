"""What a plan says of a study: its first round, a grid as a whole, and what may end it; trials are made up by hand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from conf.study import Objective
from flows import planned_study
from flows.planned_study import PlannedStudy, StudyStage, planned
from flows.rounds import Trial
from tests.fixtures.studies import space_of, stage, trial


def test_a_plan_knows_the_first_round_and_what_it_shares(tmp_path: Path) -> None:
    found = planned(space_of(tmp_path / "store"))
    assert [(trial.number, trial.round) for trial, _ in found.trials] == [(1, 1), (2, 1), (3, 1)]
    made = {stage.label: (stage.made, stage.pending) for stage in found.stages}
    assert made["teacher"] == ("once", 1) and made["distill-depth"] == ("4 times", 4)
    assert "The others are chosen from the results of these, 3 at a time." in found.sentences
    assert list(tmp_path.iterdir()) == [], "a plan writes nothing"


def test_a_grid_is_planned_as_a_whole(tmp_path: Path) -> None:
    rates = ["study.space.distill.lr=[1e-3, 2e-3]", "study.round=9"]
    found = planned(space_of(tmp_path, "study.sampler=grid", "study.trials=null", *rates))
    points = [tuple(trial.point.values()) for trial, _ in found.trials]
    assert points == [(1e-3, 4), (1e-3, 6), (2e-3, 4), (2e-3, 6)]


def sealed(store: Path, trials: list[Trial], leave: str = "") -> None:
    """Put these trials' stages into the store, but for one; each scores its rate."""
    for one in trials:
        for each in one.stages:
            if each.label != leave:
                folder = store / each.stage / each.key
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "artifact.json").write_text("{}")
                (folder / "scores.json").write_text(json.dumps({"val_loss": one.point["distill.lr"]}))


def test_a_plan_goes_on_from_the_results_in_the_store(tmp_path: Path) -> None:
    first = [trial for trial, _ in planned(space_of(tmp_path)).trials]
    sealed(tmp_path, first[:2])
    sealed(tmp_path, first[2:], leave="evaluate-depth")
    half = planned(space_of(tmp_path))
    assert [state for _, state in half.trials] == ["in the store", "in the store", "1 stages to run"]
    sealed(tmp_path, first)
    whole = planned(space_of(tmp_path))
    assert [(trial.round, state) for trial, state in whole.trials[:3]] == [(1, "in the store")] * 3
    assert len(whole.trials) == 6 and all(state.endswith("to run") for _, state in whole.trials[3:])


def test_a_benchmark_is_read_where_it_was_judged(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    kept = {"judge-depth-gsm8k": ("benchmark.json", {"score": 0.5}), "evaluate-depth": ("scores.json", {"val_loss": 2})}
    stages = tuple(stage(label, key=label) for label in kept)
    for each in stages:
        each.stage = each.label.partition("-")[0]
        name, content = kept[each.label]
        (tmp_path / each.stage / each.key).mkdir(parents=True)
        (tmp_path / each.stage / each.key / name).write_text(json.dumps(content))
    both = (Objective(model="depth", by="gsm8k"), Objective(model="depth"))
    asked: Any = SimpleNamespace(root=space.root, study=SimpleNamespace(objectives=both))
    assert planned_study._values(asked, trial(stages=stages)) == (0.5, 2.0)


def test_trials_are_compared_once_all_have_reached_a_point() -> None:
    there = {1: "first", 2: "second"}
    comparing: Any = SimpleNamespace(
        stored=lambda trial, place: there.get(trial.number), value=lambda artifact, place: f"{artifact} at {place}"
    )
    assert planned_study._reached(comparing, [trial(1), trial(2)], 1) == {1: "first at 1", 2: "second at 1"}
    assert planned_study._reached(comparing, [trial(1), trial(3)], 1) is None


def space(*trials: Trial, **given: Any) -> Any:
    settings = {"most": 8, "sampler": "tpe", "round": 3, "tokens": None, "gpu_hours": None, "stop": None, "fresh": 0}
    planned = (stage("data", key="d", cached=True), stage("teacher", key="t"))
    return SimpleNamespace(study=SimpleNamespace(**settings | given), planned=planned, steps=(1000, 2000), length=4000)


def test_a_plan_counts_stages_over_all_trials() -> None:
    stages = (stage("data", key="d", cached=True), stage("distill-a", key="1", cached=True))
    more = (stage("data", key="d", cached=True), stage("distill-a", key="2"), stage("distill-a", key="3"))
    known = [(trial(stages=stages), ""), (trial(2, stages=more), ""), (trial(3, stages=()), "refused")]
    assert planned_study._stages(space(), known) == [
        StudyStage(label="data", made="once", cached=1, pending=0),
        StudyStage(label="teacher", made="once", cached=0, pending=1),
        StudyStage(label="distill-a", made="3 times", cached=1, pending=2),
    ]


def test_a_plan_says_what_may_end_a_study() -> None:
    known = [(trial(), "a"), (trial(2, tokens=1000), "b")]
    lines = planned_study._sentences(space(), known, "")
    assert lines == [
        "2 of at most 8 trials are known, with 1,252 training tokens of their own.",
        "The others are chosen from the results of these, 3 at a time.",
    ]
    assert planned_study._sentences(space(sampler="grid"), known, "")[1] == "The others come in order, 3 at a time."
    assert len(planned_study._sentences(space(most=2), known, "")) == 1
    assert planned_study._sentences(space(), known, "it is spent")[1:] == ["No more follow: it is spent."]
    rule = SimpleNamespace(rule="median")
    more = planned_study._sentences(space(most=2, tokens=5000, gpu_hours=20.0, stop=rule, fresh=3), known, "")[1:]
    assert more[:2] == [
        "study.tokens 5,000 may end it before.",
        "study.gpu_hours 20 may end it before; these have 15.",
    ]
    assert more[2].startswith("Trials that fall behind are stopped after step 1,000, 2,000 of 4,000 (median)")
    assert more[3].startswith("Then the best trial and the recipe are taught again with 3 fresh seeds each")


def test_a_plan_says_where_each_trial_is() -> None:
    standing: Any = SimpleNamespace(stopped={4: SimpleNamespace(step=1200)})
    recipe: Any = object()
    refused, stopped = trial(3, refused="no"), trial(4, recipe=recipe)
    assert planned_study._state(space(), refused, standing) == ("refused", None)
    assert planned_study._state(space(), stopped, standing) == ("stopped after step 1,200", standing.stopped[4])
    assert planned_study._state(space(), trial(5, recipe=recipe), standing) == ("4 stages to run", None)
    assert planned_study._state(space(), stopped, None)[0] == "4 stages to run"


def test_a_planned_study_for_other_programs() -> None:
    stages = [StudyStage(label="data", made="once", cached=1, pending=0)]
    found = PlannedStudy(
        stages=stages, trials=[(trial(), "s"), (trial(2, refused="no"), "r")], sentences=["x"]
    ).as_json()
    assert found["stages"] == [{"label": "data", "made": "once", "cached": 1, "pending": 0}]
    first, second = found["trials"]
    assert first == {"trial": "t1", "round": 1, "point": {"a": 1}, "tokens": 146, "refused": None, "state": "s"}
    assert (second["trial"], second["refused"], found["sentences"]) == ("t2", "no", ["x"])
