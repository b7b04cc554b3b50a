"""What a run's futures come to: results, errors told once, and models that gates stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.report.gates import Verdict
from flows import outcome as module
from flows.outcome import outcome, stopped_by_gates, summary
from flows.reading import Model
from tasks.gates import GateClosed
from tasks.launch.errors import JobFailed
from tasks.store.store import Artifact
from tests.fixtures.report import report, row


def verdict(gate: str = "g", result: str = "failed", model: str = "small") -> Verdict:
    fields: dict[str, Any] = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": gate, "student": "small", "model": model, "after": "distill", "bound": "b", "measured": 1.0}
    fields |= {"n": 1, "unit": "questions", "verdict": result, "sentence": f"gate {gate}: {result}"}
    return Verdict.model_validate(fields)


class Future:
    """A future of Prefect's that has ended with a value or an error, or waits for one that has failed."""

    def __init__(self, result: Any, final: bool = True, name: str = "Failed") -> None:
        self.value, self.waited = result, False
        self.state = SimpleNamespace(is_final=lambda: final, name=name)

    def wait(self) -> None:
        self.waited = True

    def result(self, raise_on_failure: bool = True) -> Any:
        assert not raise_on_failure
        return self.value


@pytest.mark.parametrize(
    ("future", "result", "errors"),
    [
        (Future(7), 7, []),
        (Future(None, final=False), None, []),
        (Future(GateClosed(verdict())), None, []),
        (Future(JobFailed("it\n  failed")), None, ["it failed"]),
        (Future(RuntimeError(), name="Crashed"), None, ["Crashed"]),
        (Future("another kind"), None, ["another kind"]),
    ],
)
def test_a_future_gives_its_result_or_its_error(future: Future, result: int | None, errors: list[str]) -> None:
    told: list[str] = []
    assert outcome(future, told, int) == result
    assert told == errors and future.waited


def model(name: str, *gates: Future) -> Model:
    return Model(name=name, stage="distill", artifact=None, gates=gates)


def test_a_model_is_stopped_by_its_first_closed_gate() -> None:
    passed, failed = Future(verdict("a", "passed")), Future(GateClosed(verdict("b")))
    unknown, waiting = Future(GateClosed(verdict("c", "not shown"))), Future(None, final=False)
    models = [
        model("open", passed),
        model("free"),
        model("one", passed, waiting, failed, unknown),
        model("two", unknown, failed),
        model("error", Future(JobFailed("x"))),
    ]
    assert stopped_by_gates(models) == {"one": "b", "two": "c"}


def test_a_summary_has_the_closed_gates_and_what_they_stopped() -> None:
    passed, failed, unknown = verdict("a", "passed"), verdict("b"), verdict("c", "not shown")
    assert summary(report(row("small"))) is None
    assert summary(report(row("small"), gates=[passed])) is None
    assert summary(report(row("small"), gates=[passed, failed])) == "gate b: failed"
    told = summary(report(row("small"), gates=[failed, unknown], stopped={"x": "b", "y": "c"}))
    assert told == "gate b: failed; gate c: not shown; skipped models: x, y"


MISTAKE, FAULT = JobFailed("m", "mistake"), JobFailed("f", "hang")


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([MISTAKE], "mistake"),
        ([MISTAKE, MISTAKE, 7, GateClosed(verdict())], "mistake"),
        ([MISTAKE, FAULT], "fault"),
        ([MISTAKE, RuntimeError()], "fault"),
        ([FAULT], "fault"),
        ([7], "fault"),
    ],
)
def test_a_run_failed_by_mistake_if_all_of_it_did(results: list[Any], reason: str) -> None:
    run: Any = SimpleNamespace(stages={str(number): Future(result) for number, result in enumerate(results)})
    run.stages["waiting"] = Future(RuntimeError(), final=False)
    assert module._reason(run) == reason


def test_a_model_without_its_scores_is_not_reported() -> None:
    made = Artifact(stage="distill", key="k", path="/store/distill/k")
    whole = Model(name="small", stage="distill", artifact=Future(made), scores=Future(made), trained=True)
    entry = module._measured(whole, [])
    assert entry and (entry.path, entry.training, entry.benchmarks) == (f"{made.path}/model", made.path, {})
    whole.trained, whole.judged = False, {"a": Future(made), "b": Future(None, final=False)}
    entry = module._measured(whole, [])
    assert entry and (entry.training, list(entry.benchmarks)) == (None, ["a"])
    errors: list[str] = []
    whole.scores = Future(JobFailed("no scores"))
    assert module._measured(whole, errors) is None and errors == ["no scores"]


def test_sources_of_all_corpora_are_listed() -> None:
    recipe: Any = SimpleNamespace(data=SimpleNamespace(source=("a", "b")), blend=None)
    assert module._sources(recipe) == ("a", "b")
    recipe.blend = SimpleNamespace(sources={"x": SimpleNamespace(source="c"), "y": SimpleNamespace(source=("d",))})
    assert module._sources(recipe) == ("a", "b", "c", "d")
