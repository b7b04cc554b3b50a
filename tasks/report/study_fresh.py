"""The best trial of a study against the recipe, both taught again with fresh seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from conf.benchmarks import BENCHMARKS
from conf.report.study import FreshSeeds
from conf.study import Objective
from tasks.analysis.crossed import crossed_interval
from tasks.analysis.statistics import finite
from tasks.analysis.verdicts import Scores
from tasks.report.model import ReportModel
from tasks.report.sections.benchmarks import read_right

Pair = tuple[ReportModel, ReportModel]
"""The best trial's model and the recipe's, taught with the same seed and scored on the test split."""


def value_of(folder: str, objective: Objective) -> float:
    """An objective from a sealed evaluation, or from a judged benchmark."""
    file, name = ("benchmark.json", "score") if objective.by in BENCHMARKS else ("scores.json", objective.by)
    return float(json.loads((Path(folder) / file).read_text(encoding="utf-8"))[name])


def compared(
    objective: Objective, value: float, trial: tuple[float, ...], recipe: tuple[float, ...], pairs: list[Pair]
) -> FreshSeeds:
    """The verdict: `value` is the best trial's in the study, `trial` and `recipe` those with fresh seeds on the same
    split, and `pairs` their models scored on the test split."""
    ours, theirs = ([_items(objective, pair[side]) for pair in pairs] for side in (0, 1))
    common = sorted(set.intersection(*(set(items) for items in (*ours, *theirs))))
    differences = np.array(
        [[one[item] - other[item] for item in common] for one, other in zip(ours, theirs, strict=True)]
    )
    mean, low, high = crossed_interval(differences)
    sign = -1 if objective.lower else 1
    worst, best = sorted((sign * low, sign * high))
    return FreshSeeds(
        seeds=len(pairs),
        trial=trial,
        recipe=recipe,
        luck=sign * (value - float(np.mean(trial))),
        difference=mean,
        ci95=finite(low, high),
        items=len(common),
        verdict="better" if worst > 0 else "worse" if best < 0 else "not shown",
    )


def _items(objective: Objective, model: ReportModel) -> dict[str, float]:
    """A model's loss on each test sequence, or whether it answered each question."""
    if objective.by in BENCHMARKS:
        return {name: float(right) for name, right in read_right(model.benchmarks[objective.by]).items()}
    scores = Scores.read(model.scores)
    if objective.by == "mmlu":
        return {f"{subject} {number}": float(right) for (subject, number), right in scores.answers.items()}
    return {f"{number:09d}": loss for number, loss in enumerate(scores.sequences[objective.by])}
