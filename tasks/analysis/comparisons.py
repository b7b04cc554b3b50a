"""Compares a model of the report with another: differences, paired where both answered the same questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.row import Difference, ModelScores, Recovered
from tasks.analysis.statistics import finite, mcnemar, mean_interval, paired_difference

Answers = dict[tuple[str, int], bool]
"""Whether each question was answered correctly, by subject and number."""


def answers_of(scores: str) -> Answers:
    """The answers in a sealed evaluate or judge artifact, the first to each question; empty where none was asked."""
    file = Path(scores) / "items.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {(line["subject"], line["index"]): bool(line["correct"]) for line in lines if not line.get("sample")}


Losses = list[float]
"""Loss on each test sequence, in their order in the test split; nats per token."""


def losses_of(scores: str) -> Losses:
    """The losses by test sequence in a sealed evaluate artifact; empty where it has none."""
    file = Path(scores) / "sequences.json"
    content: dict[str, Losses] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content.get("val_loss", [])


def paired_losses(ours: Losses, theirs: Losses) -> tuple[float, float, float] | None:
    """Mean difference and its 95% interval over the sequences that both scored, the first ones of one split; None:
    there are none."""
    common = [our - their for our, their in zip(ours, theirs, strict=False)]
    return mean_interval(common) if common else None


def compare(
    model: ModelScores, base: ModelScores, answers: dict[str, Answers], losses: dict[str, Losses] | None = None
) -> Difference:
    """Differences from another model, paired over the questions both answered and the test sequences both scored.
    `answers` and `losses` are by model."""
    difference = Difference(
        model=base.model, val_loss=model.val_loss - base.val_loss, bytes_ratio=model.bytes / base.bytes
    )
    by_model = losses or {}
    if paired := paired_losses(by_model.get(model.model, []), by_model.get(base.model, [])):
        difference = difference.model_copy(update={"val_loss_ci95": finite(paired[1], paired[2])})
    return difference.model_copy(update=_score(answers[model.model], answers[base.model]))


def _score(ours: Answers, theirs: Answers) -> dict[str, Any]:
    """The fields of a difference in score; none without common questions."""
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return {}
    pair = [ours[item] for item in common], [theirs[item] for item in common]
    points, low, high = paired_difference(*pair)
    return {"mmlu": points, "mmlu_ci95": (low, high), "mmlu_p": mcnemar(*pair), "mmlu_n": len(common)}


def recovered(student: ModelScores, pruned: ModelScores, teacher: ModelScores, lost: Difference) -> Recovered:
    """Share of the loss from pruning that distillation recovered; `lost` is the pruned model's difference from the
    teacher. Points need a significant loss: its whole interval is below 0."""
    nats = pruned.val_loss - teacher.val_loss
    points = None
    if lost.mmlu is not None and lost.mmlu_ci95 is not None and lost.mmlu_ci95[1] < 0:
        assert student.mmlu is not None and pruned.mmlu is not None, "a model that answered questions has a score"
        points = (student.mmlu - pruned.mmlu) / -lost.mmlu
    return Recovered(nats=(pruned.val_loss - student.val_loss) / nats if nats > 0 else None, points=points)
