"""A model of the report set against another: differences, paired where both answered the same questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.analysis.statistics import mcnemar, paired_difference

Row = dict[str, Any]


def items_of(scores: str) -> dict[tuple[str, int], bool]:
    """Whether each question was answered right, by subject and number, from a sealed evaluate artifact."""
    file = Path(scores) / "items.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return {(line["subject"], line["index"]): bool(line["correct"]) for line in lines}


def compare(row: Row, base: Row, items: dict[str, dict[tuple[str, int], bool]]) -> Row:
    """Differences to another model; the score's is paired over the questions both answered."""
    row["share_params"] = row["num_params"] / base["num_params"] if base["stage"] == "teacher" else row["share_params"]
    ours, theirs = items[row["model"]], items[base["model"]]
    common = sorted(ours.keys() & theirs.keys())
    result: Row = {
        "model": base["model"],
        "val_loss": row["val_loss"] - base["val_loss"],
        "mmlu": None,
        "mmlu_ci95": None,
        "mmlu_p": None,
    }
    result |= {"bytes_ratio": row["bytes"] / base["bytes"]}
    if common:
        pair = [ours[item] for item in common], [theirs[item] for item in common]
        difference, low, high = paired_difference(*pair)
        result |= {"mmlu": difference, "mmlu_ci95": [low, high], "mmlu_p": mcnemar(*pair), "mmlu_n": len(common)}
    return result


def recovered(row: Row, rows: dict[str, Row]) -> dict[str, float | None]:
    """Share of what pruning lost that distillation won back, in score and in nats; None where pruning lost nothing
    shown."""
    pruned, teacher = rows[f"{row['model']}-pruned"], rows["teacher"]
    nats = pruned["val_loss"] - teacher["val_loss"]
    shares: dict[str, float | None] = {
        "nats": (pruned["val_loss"] - row["val_loss"]) / nats if nats > 0 else None,
        "points": None,
    }
    lost = pruned["against_teacher"]
    if lost["mmlu"] is not None and lost["mmlu_ci95"][1] < 0:
        shares["points"] = (row["mmlu"] - pruned["mmlu"]) / -lost["mmlu"]
    return shares
