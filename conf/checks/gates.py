"""Checks for gates that can never pass: a missing stage or metric, or too few questions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import NormalDist

from conf.benchmarks import NUM_QUESTIONS
from conf.checks.asked import check_asked
from conf.gates import CHANCE, SCORES, Gate
from conf.recipe import Recipe

HUB_QUESTIONS = 14_042
"""Number of test questions of cais/mmlu."""
HUB_SUBJECTS = 57


def check_gates(recipe: Recipe) -> None:
    """Raise ValueError for the first gate that cannot work."""
    for name, gate in recipe.gates.items():
        if gate and not any(gate.after in recipe.stages_of(student) for student in recipe.students):
            raise ValueError(
                f"gates.{name}.after is {gate.after}, a stage that no student has; remove the gate or add the stage"
            )
    for student, settings in recipe.students.items():
        for name, gate in settings.gates.items():
            if gate and gate.after not in recipe.stages_of(student):
                raise ValueError(
                    f"students.{student}.gates.{name}.after is {gate.after}, a stage that {student} does not have;"
                    " remove the gate or add the stage"
                )
        for name, gate in recipe.gates_of(student).items():
            where = f"students.{student}.gates.{name}" if name in settings.gates else f"gates.{name}"
            _check_measured(where, gate, recipe)


def _check_measured(where: str, gate: Gate, recipe: Recipe) -> None:
    evaluate = recipe.evaluate
    if gate.metric == "mmlu" and evaluate.mmlu is None:
        raise ValueError(
            f"{where}.metric is mmlu but evaluate.mmlu is null; set evaluate.mmlu or choose another metric"
        )
    check_asked(f"{where}.metric", gate.metric, evaluate)
    if gate.confidence == "none":
        return
    if gate.metric not in SCORES:
        if evaluate.sequences < 2:
            raise ValueError(
                f"{where} has a confidence but evaluate.sequences is 1, which gives no interval; choose at least 2 or"
                " set confidence: none"
            )
        return
    available, needed = _num_questions(recipe, gate.metric), needed_questions(gate)
    if available is not None and available < needed:
        enough = (
            "no number of questions is enough"
            if math.isinf(needed)
            else f"about {round_up(needed):,} questions are enough"
        )
        raise ValueError(
            f"{where} ({gate.description}) cannot pass with {available} questions, even if all answers are right:"
            f" {enough}; use more questions, widen the bound or set confidence: none"
        )


def needed_questions(gate: Gate) -> float:
    """Fewest questions with which the bound can be shown if model and baseline answer all of them right; 0 if only a
    better model than the baseline can pass. Uses the intervals of `tasks.analysis.statistics` for such answers."""
    assert gate.confidence != "none", "without confidence a single question is enough"
    z2 = NormalDist().inv_cdf(0.5 + gate.confidence / 2) ** 2
    bound = gate.bound
    if gate.against in ("absolute", "chance"):
        if gate.against == "chance":
            chance = gate.chance or CHANCE
            bound = bound * chance if gate.by == "ratio" else bound + chance
        return math.inf if bound >= 1 else max(0.0, z2 * bound / (1 - bound))
    if gate.by == "difference":
        return z2 * (1 / -bound - 1) if bound < 0 else 0.0
    return z2 / 2 * bound / (1 - bound) if bound < 1 else 0.0


def round_up(number: float) -> int:
    """Round up to two significant digits."""
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step


def _num_questions(recipe: Recipe, metric: str) -> int | None:
    """Maximum number of questions of an evaluation; None if unknown."""
    for name, benchmark in recipe.evaluate.benchmarks.items():
        if name == metric:
            whole = NUM_QUESTIONS[name]
            return benchmark.limit if benchmark.path else min(benchmark.limit or whole, whole)
    mmlu = recipe.evaluate.mmlu
    assert mmlu is not None, "the caller checks that there are questions"
    if mmlu.path == "quiz":
        return recipe.data.world.questions
    if mmlu.path:
        counts = [_rows(file) for file in Path(mmlu.path).glob("test/*_test.csv") if _selected(file, mmlu.subjects)]
        return sum(min(count, mmlu.limit or count) for count in counts)
    return min(HUB_QUESTIONS, (len(mmlu.subjects) or HUB_SUBJECTS) * mmlu.limit) if mmlu.limit else HUB_QUESTIONS


def _selected(file: Path, subjects: tuple[str, ...]) -> bool:
    return not subjects or file.name.removesuffix("_test.csv") in subjects


def _rows(file: Path) -> int:
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        return sum(1 for row in csv.reader(stream) if row)
