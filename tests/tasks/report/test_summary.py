"""The report's summary: what the numbers mean, and where they mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.quantization import Verified
from conf.report.row import Difference, Recovered, Row
from tasks.report.summary import comparison, summary
from tests.fixtures.report import report, row
from tests.tasks.report.sections.test_answerers import SCORES as BENCHMARK
from tests.tasks.report.sections.test_verification import RECORD

TEACHER = row("teacher", "teacher", mmlu=0.9, mmlu_n=200, mmlu_ci95=(0.85, 0.93))


def against(loss: float, points: float | None = None, low: float = 0.0, high: float = 0.0) -> Difference:
    score: dict[str, Any] = {} if points is None else {"mmlu": points, "mmlu_ci95": (low, high)}
    return Difference(model="teacher", val_loss=loss, bytes_ratio=0.5, **score)


def about(*rows: Row, **fields: Any) -> list[str]:
    """The summary after the teacher's sentence."""
    return summary(report(TEACHER, *rows, **fields))[1:]


@pytest.mark.parametrize(("chance", "at_chance"), [(0.25, False), (0.849, False), (0.85, True), (0.9, True)])
def test_a_score_at_chance_is_called_noise(chance: float, at_chance: bool) -> None:
    (sentence,) = summary(report(TEACHER, chance=chance))
    assert ("is not above chance" in sentence and "noise" in sentence) == at_chance
    assert f"{chance:.0%}" in sentence and "90.0%" in sentence and "200" in sentence


def test_an_unknown_chance_is_a_quarter() -> None:
    assert summary(report(TEACHER)) == ["The teacher answers 90.0% of 200 questions correctly; chance is 25%."]


def test_without_questions_the_teacher_is_not_mentioned() -> None:
    assert summary(report(row("teacher", "teacher"))) == []


def test_pruning_costs_nats_and_points() -> None:
    pruned = row("small-pruned", "prune", share_params=0.5, against_teacher=against(1.0, -0.4, -0.45, -0.35))
    assert about(pruned) == [
        "Pruning to small (50% of the parameters) cost 1.000 nats; score -40.0 points (95% -45.0 to -35.0)."
    ]


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(-0.1, -0.001, True), (-0.1, 0.0, False), (0.0, 0.1, False), (0.001, 0.1, True)]
)
def test_an_interval_with_zero_is_not_significant(low: float, high: float, shown: bool) -> None:
    (sentence,) = about(row("small-pruned", "prune", against_teacher=against(0.1, 0.0, low, high)))
    assert ("with no significant difference in score: " in sentence) != shown
    (compared,) = [comparison(row("other", against_teacher=against(0.1, 0.0, low, high)), TEACHER)]
    assert (", no significant difference" in compared) != shown


def test_baselines_are_called_that() -> None:
    pruned = row("small-pruned", "prune", baseline="random", against_teacher=against(1.0))
    scratch = row("fresh", baseline="scratch", against_teacher=against(0.2))
    untrained = row("fresh-pruned", "prune", baseline="scratch", against_teacher=against(9.0))
    assert about(pruned, untrained, scratch) == [
        "Pruning to small (100% of the parameters, ranked by random as a baseline) cost 1.000 nats.",
        "fresh, the same shape from random weights, loses 0.200 nats against the teacher after distillation.",
    ]


@pytest.mark.parametrize(
    ("recovered", "sentences"),
    [
        (
            {"nats": 0.8, "points": 0.75},
            ["Distillation recovered 80% of the lost nats and 75% of the lost points for small."],
        ),
        ({"nats": 0.8}, ["Distillation recovered 80% of the lost nats for small."]),
        ({}, []),
    ],
)
def test_recovered_shares_are_told(recovered: dict[str, float], sentences: list[str]) -> None:
    assert about(row("small", recovered=Recovered(**recovered))) == sentences


def test_quantization_is_compared_with_the_student() -> None:
    student = against(0.01, -0.005, -0.02, 0.01)
    quantized = row("small-fp8", "quantize", format="fp8", against_student=student, against_teacher=against(9.0))
    assert about(quantized) == [
        "FP8 cost 0.010 nats for small with no significant difference in score: -0.5 points (95% -2.0 to +1.0)."
    ]


def test_a_cut_better_than_the_teacher_is_a_gain() -> None:
    against_teacher = against(-0.142).model_copy(update={"val_loss_ci95": (-0.2, -0.1)})
    told = about(row("small-pruned", "prune", share_params=0.5, against_teacher=against_teacher))
    assert told == [
        "The corpus lies outside the teacher's domain: small-pruned, a cut that nobody taught, is 0.142 nats better"
        " than the teacher. The loss says nothing of what a student kept of the teacher here; compare models by KL.",
        "Pruning to small (50% of the parameters) gained 0.142 nats.",
    ]


@pytest.mark.parametrize(
    ("stage", "high", "told"),
    [("distill", -0.001, True), ("sft", -0.001, True), ("distill", 0.001, False), ("quantize", -0.001, False)],
)
def test_a_student_below_its_teachers_loss_needs_a_reason(stage: str, high: float, told: bool) -> None:
    against_teacher = against(-0.003).model_copy(update={"val_loss_ci95": (-0.005, high)})
    sentences = about(row("small", stage, student="small", against_teacher=against_teacher))
    assert any("The loss of small is below the teacher's" in sentence for sentence in sentences) == told


def test_a_students_loss_without_an_interval_needs_none() -> None:
    assert about(row("small", against_teacher=against(-0.003))) == []


def test_cut_questions_are_told() -> None:
    (told,) = about(row("small", mmlu_truncated=1234))
    assert told.startswith("Questions longer than a model's context lost their beginning (1,234 for small)")


def test_simulated_quantization_is_disclosed() -> None:
    told = about(row("small", simulated=True))[-1]
    assert "simulated by ModelOpt" in told and "An engine" not in told
    assert about(row("small")) == []


def test_an_engine_that_opened_some_is_told() -> None:
    rows = row("a", simulated=True), row("b", simulated=True), row("c")
    told = about(*rows, verified={"a": Verified.model_validate(RECORD)})[-1]
    assert told.endswith("An engine opened 1 of 2: its losses agree.")


def test_who_answered_the_benchmarks_is_told() -> None:
    vllm = BENCHMARK | {"answered_by": {"engine": "vLLM", "version": "0.32.0"}}
    asked = [("a", vllm), ("a", vllm), ("b", BENCHMARK), ("c", BENCHMARK | {"answered_by": {"engine": "SGLang 1"}})]
    rows = [{"benchmark": "gsm8k", "model": model, "scores": scores} for model, scores in asked]
    assert about(row("a"), benchmarks=rows) == ["Other benchmarks of a, c: answered by vLLM 0.32.0 and SGLang 1."]
    assert about(row("a"), benchmarks=rows[2:3]) == []
    assert summary(report(row("teacher", "teacher"), benchmarks=rows[:1])) == [
        "Benchmarks of a: answered by vLLM 0.32.0."
    ]
    by = {"engine": "vLLM", "version": "0.32.0", "on_cpu": True}
    assert about(row("a", mmlu_answered_by=by), row("b")) == ["MMLU of a: answered by vLLM 0.32.0 on a CPU."]


def test_standalone_models_are_compared() -> None:
    other = row("other", against_teacher=against(0.5, 0.1, 0.05, 0.15))
    assert comparison(other, TEACHER) == (
        "other against teacher: +0.5000 nats and +10.0 points (95% +5.0 to +15.0), 50% of its size."
    )
    unscored = against(0.5, 0.1).model_copy(update={"mmlu_ci95": None})
    for without in (against(0.5), unscored):
        told = comparison(row("o", against_teacher=without), TEACHER)
        assert told == "o against teacher: +0.5000 nats, 50% of its size."
