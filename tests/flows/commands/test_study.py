"""What `imbik study` shows of a finished study and of a planned one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.report.study import StoppedTrial, StudyTrial
from conf.study import Objective
from flows.commands import study as module
from flows.planned_study import PlannedStudy, StudyStage
from tests.fixtures.studies import STUDY


def trial(number: int, *values: float, **more: Any) -> StudyTrial:
    return StudyTrial(
        number=number, round=1, point={"distill.lr": number / 1000}, values=values or None, tokens=7, **more
    )


STOPPED = StoppedTrial(step=3, steps=9, value=4.0, tokens_saved=60)
TRIALS = (trial(1, 2.5), trial(2, failed="no"), trial(3, 1.5), trial(4, stopped=STOPPED), trial(5, 3.5))


def found(
    trials: tuple[StudyTrial, ...] = TRIALS, by: Any = "val_loss", best: int | None = 3, fresh: Any = None
) -> Any:
    study = SimpleNamespace(objectives=(Objective(model="depth", by=by),), space={"distill.lr": (1e-3, 2e-3)})
    return SimpleNamespace(
        study=study, trials=trials, best=best, fresh=fresh, recipe_values=None, model_dump=lambda mode: {"best": best}
    )


def numbers(study: Any) -> list[str]:
    return [str(cell).strip().rstrip("*").strip() for cell in module._table(study).columns[0].cells]


@pytest.mark.parametrize(("by", "order"), [("val_loss", [3, 1, 5, 4, 2]), ("mmlu", [5, 1, 3, 4, 2])])
def test_the_best_trials_are_first_then_those_that_were_stopped(by: str, order: list[int]) -> None:
    shown = numbers(found(by=by))
    assert [int("".join(filter(str.isdigit, cell))) for cell in shown] == order


@pytest.mark.parametrize(("count", "caption"), [(30, None), (31, "and 1 more in the report")])
def test_a_long_study_is_shown_in_part(count: int, caption: str | None) -> None:
    table = module._table(found(tuple(trial(number, 1.0) for number in range(1, count + 1))))
    assert (len(table.rows), table.caption) == (30, caption)


def test_the_best_trial_is_a_command() -> None:
    best = StudyTrial(number=1, round=1, point={"a.b": 0.5, "c": "x y", "d": None}, values=(1.0,), tokens=1)
    command = module._command("mine.yaml", ["teacher.lr=1"], found((best,), best=1))
    assert command == "imbik run mine.yaml teacher.lr=1 a.b=0.5 'c=x y' d=null"


@pytest.mark.parametrize(("stem", "name"), [("demo", "demo-study"), ("study-distill", "study-distill")])
def test_a_studys_run_is_called_so(stem: str, name: str) -> None:
    assert module._name(stem) == name


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []
    monkeypatch.setattr(module.out, "print", lambda text, **_: told.append(text))
    monkeypatch.setattr(module, "print_json", lambda values: told.append(("json", values)))
    monkeypatch.setattr(module, "show_report", lambda folder: told.append(folder))
    return told


@pytest.mark.parametrize(
    ("best", "verdict", "told"),
    [(3, None, True), (3, "better", True), (3, "not shown", True), (3, "worse", False), (None, None, False)],
)
def test_the_best_is_offered_unless_fresh_seeds_are_worse(
    best: int | None,
    verdict: str | None,
    told: bool,
    printed: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fresh = SimpleNamespace(verdict=verdict) if verdict else None
    monkeypatch.setattr("tasks.report.study.read_study", lambda _: found(best=best, fresh=fresh))
    monkeypatch.setattr(module, "_run", lambda values, name, *_: tmp_path / name)
    module.study(str(STUDY), store=tmp_path / "store")
    assert printed[1] == tmp_path / "study" and (len(printed) == 3) == told
    assert not told or printed[2].endswith(f"imbik run {STUDY} distill.lr=0.003")


def test_a_study_for_other_programs_is_json_alone(
    printed: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tasks.report.study.read_study", lambda _: found())
    asked: list[bool] = []
    monkeypatch.setattr(module, "_run", lambda *given: asked.append(given[-1]) or tmp_path)
    module.study(str(STUDY), store=tmp_path / "store", name="mine", as_json=True)
    assert printed == [("json", {"best": 3})] and asked == [True]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_plan_runs_nothing(
    as_json: bool, printed: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = PlannedStudy(
        stages=[StudyStage(label="data", made="once", cached=1, pending=0)], trials=[], sentences=["two more"]
    )
    monkeypatch.setattr("flows.planned_study.planned", lambda _: planned)
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("it runs"))
    module.study(str(STUDY), store=tmp_path / "store", plan=True, as_json=as_json)
    if as_json:
        assert printed == [("json", planned.as_json())]
    else:
        table, _, sentence = printed
        assert sentence == "two more"
        assert [list(column.cells) for column in table.columns] == [["data"], ["once"], ["1"], ["0"]]
