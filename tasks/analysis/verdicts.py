"""Verdicts of gates: the estimate from sealed scores, its interval, and one sentence. It runs and stops nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from conf.checks.gates import round_up
from conf.gates import CHANCE, SCORES, Gate
from conf.report.gates import Verdict
from tasks.analysis import statistics
from tasks.analysis.comparisons import Answers, answers_of

MAX_GROWTH = 1e5
"""Largest factor by which the items are multiplied to find how many would show a bound."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One model's output of the evaluate stage: its answers by question, and each metric by test sequence; or of a
    benchmark's judge stage: its answers, and the share of them that guessing gets right."""

    answers: Answers
    sequences: dict[str, list[float]]
    chance: float = CHANCE

    @classmethod
    def read(cls, folder: str) -> Scores:
        """Read a sealed evaluate or judge artifact."""
        if (judged := Path(folder) / "benchmark.json").is_file():
            chance = float(json.loads(judged.read_text())["chance"])
            return cls(answers=answers_of(folder), sequences={}, chance=chance)
        sequences = json.loads((Path(folder) / "sequences.json").read_text())
        return cls(answers=answers_of(folder), sequences=sequences)


@dataclass(frozen=True)
class _Estimate:
    value: float
    low: float
    high: float
    n: int
    p: float | None = None


def judge(name: str, gate: Gate, student: str, model: str, ours: Scores, other: Scores | None) -> Verdict:
    """The verdict on a model; `other` are the scores it is compared with, None where the gate compares with chance or
    with nothing."""
    estimate_with = _of_answers(gate, ours, other) if gate.metric in SCORES else _of_sequences(gate, ours, other)
    estimate = estimate_with(1.0)
    needs = None
    meets = gate.holds(estimate.value)
    verdict: Literal["passed", "failed", "not shown"] = "passed" if meets else "failed"
    if gate.confidence != "none" and meets and not gate.holds(_worse(gate, estimate)):
        verdict, needs = "not shown", _needed(gate, estimate_with, estimate.n)
    unit: Literal["questions", "sequences"] = "questions" if gate.metric in SCORES else "sequences"
    return Verdict(
        gate=name,
        student=student,
        model=model,
        after=gate.after,
        bound=gate.description,
        confidence=None if gate.confidence == "none" else gate.confidence,
        measured=estimate.value,
        low=estimate.low if math.isfinite(estimate.low) else None,
        high=estimate.high if math.isfinite(estimate.high) else None,
        n=estimate.n,
        unit=unit,
        p=estimate.p,
        verdict=verdict,
        needs=needs,
        sentence=_sentence(name, gate, model, estimate, unit, verdict, needs),
    )


def format_estimate(confidence: float | None, value: float, low: float | None, high: float | None) -> str:
    """An estimate with its interval as text; without confidence, the estimate alone."""
    if confidence is None:
        return f"{value:.4g}"
    interval = "no interval" if low is None or high is None else f"{low:.4g} to {high:.4g}"
    return f"{value:.4g} ({confidence * 100:g}%: {interval})"


def _sentence(
    name: str, gate: Gate, model: str, estimate: _Estimate, unit: str, verdict: str, needs: int | None
) -> str:
    low, high = (end if math.isfinite(end) else None for end in (estimate.low, estimate.high))
    measured = format_estimate(None if gate.confidence == "none" else gate.confidence, estimate.value, low, high)
    measured = f"measured {measured}, n = {estimate.n} {unit}"
    if verdict == "passed":
        return f"gate {name}: {model} meets {gate.description}; {measured}"
    if verdict == "failed":
        near = gate.confidence != "none" and gate.holds(_better(gate, estimate))
        hint = f"; the interval includes the bound, so more {unit} could change the verdict" if near else ""
        return f"gate {name}: {model} does not meet {gate.description}; {measured}{hint}"
    enough = f"about {needs:,} {unit} would show it" if needs else f"no number of {unit} would show it"
    enough += " if the estimate stays the same"
    return f"gate {name}: {model} is not shown to meet {gate.description}; {measured}; {enough}"


def _worse(gate: Gate, estimate: _Estimate) -> float:
    return estimate.low if gate.at_least is not None else estimate.high


def _better(gate: Gate, estimate: _Estimate) -> float:
    return estimate.high if gate.at_least is not None else estimate.low


def _needed(gate: Gate, estimate_with: Callable[[float], _Estimate], n: int) -> int | None:
    """About how many items would show the bound at the same estimate; None where the estimate equals the bound."""
    low, high = 1.0, 2.0
    while not gate.holds(_worse(gate, estimate_with(high))):
        low, high = high, high * 2
        if high > MAX_GROWTH:
            return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if gate.holds(_worse(gate, estimate_with(middle))) else (middle, high)
    return round_up(n * high)


def _of_answers(gate: Gate, ours: Scores, other: Scores | None) -> Callable[[float], _Estimate]:
    """The estimate from right and wrong answers, as a function of the factor by which their number grows."""
    z = statistics.quantile(0.95 if gate.confidence == "none" else gate.confidence)
    if other is None:
        right, n = sum(ours.answers.values()), len(ours.answers)
        chance = ours.chance
        shift, scale = (0.0, 1.0) if not gate.by else (chance, 1.0) if gate.by == "difference" else (0.0, chance)

        def of_one(growth: float) -> _Estimate:
            low, high = statistics.wilson(right * growth, n * growth, z)
            return _Estimate((right / n - shift) / scale, (low - shift) / scale, (high - shift) / scale, n)

        return of_one
    common = sorted(ours.answers.keys() & other.answers.keys())
    assert common, "all models of a run answer the same questions"
    pair = [ours.answers[item] for item in common], [other.answers[item] for item in common]
    table, p = statistics.counts(*pair), statistics.mcnemar(*pair)
    interval = statistics.newcombe if gate.by == "difference" else statistics.bonett_price

    def of_pair(growth: float) -> _Estimate:
        a, b, c, d = (count * growth for count in table)
        return _Estimate(*interval((a, b, c, d), z), len(common), p)

    return of_pair


def _of_sequences(gate: Gate, ours: Scores, other: Scores | None) -> Callable[[float], _Estimate]:
    """The estimate from values per test sequence: Student's t for a mean or a paired difference, linearized for a
    ratio; a function of the factor by which their number grows."""
    name = "val_loss" if gate.metric == "perplexity" else gate.metric
    values = np.array(ours.sequences[name])
    other_values = np.array(other.sequences[name]) if other else np.zeros(len(values))
    assert len(values) == len(other_values), "all models of a run are scored on the same sequences"
    value, differences, scale = float(np.mean(values - other_values)), values - other_values, 1.0
    transform: Callable[[float], float] = math.exp if gate.metric == "perplexity" else float
    if gate.by == "ratio" and gate.metric != "perplexity":  # a ratio of perplexities is a difference of losses
        scale = float(np.mean(other_values))
        value = float(np.mean(values)) / scale if scale else math.inf
        differences = values - value * other_values if scale else differences
    n = len(differences)
    spread = float(np.std(differences, ddof=1)) if n > 1 else math.inf

    def estimate(growth: float) -> _Estimate:
        if n < 2 or not math.isfinite(value):
            return _Estimate(transform(value), -math.inf, math.inf, n)
        level = 0.95 if gate.confidence == "none" else gate.confidence
        half = statistics.student_t(0.5 + level / 2, n * growth - 1) * spread / (scale * math.sqrt(n * growth))
        return _Estimate(transform(value), transform(value - half), transform(value + half), n)

    return estimate
