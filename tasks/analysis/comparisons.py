"""Compares a model of the report with another: differences, paired where both answered the same questions."""

from __future__ import annotations

import json
from pathlib import Path

from conf.report.row import Difference, ModelScores, Recovered
from tasks.analysis.statistics import mcnemar, paired_difference

Answers = dict[tuple[str, int], bool]
"""Whether each question was answered correctly, by subject and number."""


def answers_of(scores: str) -> Answers:
    """The answers in a sealed evaluate artifact; empty where no questions were asked."""
    file = Path(scores) / "items.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {(line["subject"], line["index"]): bool(line["correct"]) for line in lines}


def compare(model: ModelScores, base: ModelScores, answers: dict[str, Answers]) -> Difference:
    """Differences from another model; the score is paired over the questions both answered. `answers` are by model."""
    model_answers, base_answers = answers[model.model], answers[base.model]
    common = sorted(model_answers.keys() & base_answers.keys())
    difference = Difference(
        model=base.model, val_loss=model.val_loss - base.val_loss, bytes_ratio=model.bytes / base.bytes
    )
    if not common:
        return difference
    pair = [model_answers[item] for item in common], [base_answers[item] for item in common]
    points, low, high = paired_difference(*pair)
    score = {"mmlu": points, "mmlu_ci95": (low, high), "mmlu_p": mcnemar(*pair), "mmlu_n": len(common)}
    return difference.model_copy(update=score)


def recovered(student: ModelScores, pruned: ModelScores, teacher: ModelScores, lost: Difference) -> Recovered:
    """Share of the loss from pruning that distillation recovered; `lost` is the pruned model's difference from the
    teacher. Points need a significant loss: its whole interval is below 0."""
    nats = pruned.val_loss - teacher.val_loss
    points = None
    if lost.mmlu is not None and lost.mmlu_ci95 is not None and lost.mmlu_ci95[1] < 0:
        assert student.mmlu is not None and pruned.mmlu is not None, "a model that answered questions has a score"
        points = (student.mmlu - pruned.mmlu) / -lost.mmlu
    return Recovered(nats=(pruned.val_loss - student.val_loss) / nats if nats > 0 else None, points=points)
