"""Gates that could never open, known before anything runs: a stage or metric the recipe does not have, too few
questions."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import NormalDist

from conf.gates import CHANCE, Gate
from conf.recipe import Recipe

HUB_QUESTIONS = 14_042
"""Test questions of cais/mmlu."""
HUB_SUBJECTS = 57


def check_gates(recipe: Recipe) -> None:
    """Raise ValueError with one sentence for the first gate that cannot work."""
    for name, gate in recipe.gates.items():
        if gate and not any(gate.after in recipe.stages_of(student) for student in recipe.students):
            raise ValueError(
                f"gates.{name} stands after {gate.after}, which no student of the recipe has; remove it or add the"
                " stage"
            )
    for student, settings in recipe.students.items():
        for name, own in settings.gates.items():
            if own and own.after not in recipe.stages_of(student):
                raise ValueError(
                    f"students.{student}.gates.{name} stands after {own.after}, which {student} does not have; remove"
                    " it or add the stage"
                )
        for name, gate in recipe.gates_of(student).items():
            where = f"students.{student}.gates.{name}" if name in settings.gates else f"gates.{name}"
            _check_measured(where, gate, recipe)


def _check_measured(where: str, gate: Gate, recipe: Recipe) -> None:
    scoring = recipe.evaluate
    if gate.metric == "mmlu" and scoring.mmlu is None:
        raise ValueError(
            f"{where} bounds mmlu, which evaluate.mmlu: null does not measure; give evaluate.mmlu or bound another"
            " metric"
        )
    if gate.confidence == "none":
        return
    if gate.metric != "mmlu":
        if scoring.sequences < 2:
            raise ValueError(
                f"{where} asks for confidence, but evaluate.sequences is 1 and one sequence has no interval; "
                "choose at least 2 or confidence: none"
            )
        return
    asked, needed = _num_questions(recipe), needed_questions(gate)
    if asked is not None and asked < needed:
        enough = (
            "no number of questions would do"
            if math.isinf(needed)
            else f"about {round_up(needed):,} questions would do"
        )
        raise ValueError(
            f"{where} ({gate.told}) cannot be shown with {asked} questions, even by a model that answers all of them"
            f" right: {enough}; ask more, widen the bound or choose confidence: none"
        )


def needed_questions(gate: Gate) -> float:
    """Fewest questions with which a model that answers all of them right, as what it is compared with does, is shown to
    keep the bound; 0 where only a better model than the other could (the intervals are those of `tasks.statistics` at
    such answers)."""
    assert gate.confidence != "none", "without confidence a single question is enough"
    z2 = NormalDist().inv_cdf(0.5 + gate.confidence / 2) ** 2
    bound = gate.bound
    if gate.against in ("absolute", "chance"):
        if gate.against == "chance":
            bound = bound * CHANCE if gate.by == "ratio" else bound + CHANCE
        return math.inf if bound >= 1 else max(0.0, z2 * bound / (1 - bound))
    if gate.by == "difference":
        return z2 * (1 / -bound - 1) if bound < 0 else 0.0
    return z2 / 2 * bound / (1 - bound) if bound < 1 else 0.0


def round_up(number: float) -> int:
    """To two significant digits, upwards: as exact as such a number can be."""
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step


def _num_questions(recipe: Recipe) -> int | None:
    """Questions that will be asked, at most; None where that is not known."""
    mmlu = recipe.evaluate.mmlu
    assert mmlu is not None, "asked only where questions are"
    if mmlu.path == "quiz":
        return recipe.data.world.questions
    if mmlu.path:
        counts = [_rows(file) for file in Path(mmlu.path).glob("test/*_test.csv") if _asked(file, mmlu.subjects)]
        return sum(min(count, mmlu.limit or count) for count in counts)
    return min(HUB_QUESTIONS, (len(mmlu.subjects) or HUB_SUBJECTS) * mmlu.limit) if mmlu.limit else HUB_QUESTIONS


def _asked(file: Path, subjects: tuple[str, ...]) -> bool:
    return not subjects or file.name.removesuffix("_test.csv") in subjects


def _rows(file: Path) -> int:
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        return sum(1 for row in csv.reader(stream) if row)
