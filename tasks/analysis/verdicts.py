"""Whether a model keeps a gate's bound: the estimate from sealed scores, its interval, and one sentence. It runs and
stops nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from conf.base import Config
from conf.checks.gates import round_up
from conf.gates import CHANCE, Gate
from tasks.analysis import statistics

MOST = 1e5
"""Times more questions than were asked, beyond which no number is told."""


class Verdict(Config):
    """What came of a gate. Numbers are in the gate's own terms (a ratio, a difference or the metric itself); None: no
    interval."""

    gate: str
    student: str
    model: str
    after: str
    bound: str
    confidence: float | None
    measured: float
    low: float | None
    high: float | None
    n: int
    unit: Literal["questions", "sequences"]
    p: float | None
    verdict: Literal["passed", "failed", "not shown"]
    needs: int | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the evaluate stage left of one model: answers by question, and each test sequence's numbers."""

    answers: dict[tuple[str, int], bool]
    sequences: dict[str, list[float]]

    @classmethod
    def read(cls, folder: str) -> Scores:
        """Of a sealed evaluate artifact."""
        items = Path(folder) / "items.jsonl"
        lines = [json.loads(line) for line in items.read_text().splitlines()] if items.is_file() else []
        answers = {(line["subject"], line["index"]): bool(line["correct"]) for line in lines}
        return cls(answers=answers, sequences=json.loads((Path(folder) / "sequences.json").read_text()))


@dataclass(frozen=True)
class _Estimate:
    value: float
    low: float
    high: float
    n: int
    p: float | None = None


def judge(name: str, gate: Gate, student: str, model: str, ours: Scores, other: Scores | None) -> Verdict:
    """The verdict on a model; `other` is what the gate sets it against, None where that is no model."""
    estimate_with = _of_answers(gate, ours, other) if gate.metric == "mmlu" else _of_sequences(gate, ours, other)
    found = estimate_with(1.0)
    needs = None
    if gate.confidence == "none":
        shown = gate.holds(found.value)
        verdict: Literal["passed", "failed", "not shown"] = "passed" if shown else "failed"
    else:
        verdict = "passed" if gate.holds(_worse(gate, found)) else "not shown" if gate.holds(found.value) else "failed"
        needs = _needed(gate, estimate_with, found.n) if verdict == "not shown" else None
    unit: Literal["questions", "sequences"] = "questions" if gate.metric == "mmlu" else "sequences"
    return Verdict(
        gate=name,
        student=student,
        model=model,
        after=gate.after,
        bound=gate.description,
        confidence=None if gate.confidence == "none" else gate.confidence,
        measured=found.value,
        low=found.low if math.isfinite(found.low) else None,
        high=found.high if math.isfinite(found.high) else None,
        n=found.n,
        unit=unit,
        p=found.p,
        verdict=verdict,
        needs=needs,
        sentence=_sentence(name, gate, model, found, unit, verdict, needs),
    )


def measured(confidence: float | None, value: float, low: float | None, high: float | None) -> str:
    """An estimate with its interval as text."""
    if confidence is None:
        return f"{value:.4g}"
    return f"{value:.4g} ({confidence * 100:g}%: " + (
        "no interval)" if low is None or high is None else f"{low:.4g} to {high:.4g})"
    )


def _sentence(name: str, gate: Gate, model: str, found: _Estimate, unit: str, verdict: str, needs: int | None) -> str:
    low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
    told = measured(None if gate.confidence == "none" else gate.confidence, found.value, low, high)
    if verdict == "passed":
        return f"gate {name}: {model} keeps {gate.description}; measured {told}, n = {found.n} {unit}"
    if verdict == "failed":
        near = gate.confidence != "none" and gate.holds(_better(gate, found))
        doubt = "; the interval reaches the bound, so more of them could tell" if near else ""
        return f"gate {name}: {model} does not keep {gate.description}; measured {told}, n = {found.n} {unit}{doubt}"
    enough = f"it needs about {needs:,} {unit}" if needs else f"no number of {unit} would show it"
    return (
        f"gate {name}: {gate.description} cannot be shown for {model} with n = {found.n} {unit}; measured {told};"
        f" {enough} at this estimate"
    )


def _worse(gate: Gate, found: _Estimate) -> float:
    return found.low if gate.at_least is not None else found.high


def _better(gate: Gate, found: _Estimate) -> float:
    return found.high if gate.at_least is not None else found.low


def _needed(gate: Gate, estimate_with: Callable[[float], _Estimate], n: int) -> int | None:
    """About how many would show the bound if answers went on as they did; None where the bound is the estimate
    itself."""
    low, high = 1.0, 2.0
    while not gate.holds(_worse(gate, estimate_with(high))):
        low, high = high, high * 2
        if high > MOST:
            return None
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if gate.holds(_worse(gate, estimate_with(middle))) else (middle, high)
    return round_up(n * high)


def _of_answers(gate: Gate, ours: Scores, other: Scores | None) -> Callable[[float], _Estimate]:
    """Estimate from right and wrong answers, as a function of how many times as many there were."""
    z = statistics.quantile(0.95 if gate.confidence == "none" else gate.confidence)
    if other is None:
        right, n = sum(ours.answers.values()), len(ours.answers)
        shift, scale = (0.0, 1.0) if not gate.by else (CHANCE, 1.0) if gate.by == "difference" else (0.0, CHANCE)

        def alone(grown: float) -> _Estimate:
            low, high = statistics.wilson(right * grown, n * grown, z)
            return _Estimate((right / n - shift) / scale, (low - shift) / scale, (high - shift) / scale, n)

        return alone
    common = sorted(ours.answers.keys() & other.answers.keys())
    assert common, "all models of a run answer the same questions"
    pair = [ours.answers[item] for item in common], [other.answers[item] for item in common]
    table, p = statistics.counts(*pair), statistics.mcnemar(*pair)
    interval = statistics.newcombe if gate.by == "difference" else statistics.bonett_price

    def paired(grown: float) -> _Estimate:
        a, b, c, d = (count * grown for count in table)
        return _Estimate(*interval((a, b, c, d), z), len(common), p)

    return paired


def _of_sequences(gate: Gate, ours: Scores, other: Scores | None) -> Callable[[float], _Estimate]:
    """Estimate from numbers per test sequence: Student's t for a mean or a paired difference, its linear form for a
    ratio."""
    name = "val_loss" if gate.metric == "perplexity" else gate.metric
    mine = np.array(ours.sequences[name])
    theirs = np.array(other.sequences[name]) if other else np.zeros(len(mine))
    assert len(mine) == len(theirs), "all models of a run are scored on the same sequences"
    value, parts, scale = float(np.mean(mine - theirs)), mine - theirs, 1.0
    turn: Callable[[float], float] = math.exp if gate.metric == "perplexity" else float
    if gate.by == "ratio" and gate.metric != "perplexity":  # a perplexity's ratio is a loss's difference
        scale = float(np.mean(theirs))
        value = float(np.mean(mine)) / scale if scale else math.inf
        parts = mine - value * theirs if scale else parts
    n, spread = len(parts), float(np.std(parts, ddof=1)) if len(parts) > 1 else math.inf

    def estimate(grown: float) -> _Estimate:
        if n < 2 or not math.isfinite(value):
            return _Estimate(turn(value), -math.inf, math.inf, n)
        level = 0.95 if gate.confidence == "none" else gate.confidence
        half = statistics.student_t(0.5 + level / 2, n * grown - 1) * spread / (scale * math.sqrt(n * grown))
        return _Estimate(turn(value), turn(value - half), turn(value + half), n)

    return estimate
