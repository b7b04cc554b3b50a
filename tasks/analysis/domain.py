"""Whether the corpus lies within the teacher's domain: outside it, a loss on the text says nothing of what the teacher
knows, and KL from the teacher is the judge."""

from __future__ import annotations

import json
import math
from pathlib import Path

from conf.report.row import Row

UNIFORM_SHARE = 0.8
"""Share of ln(vocabulary), the loss of a uniform guess, from which a teacher counts as knowing nothing of the text."""


def outside(rows: tuple[Row, ...]) -> str | None:
    """Why the corpus is outside the teacher's domain, as half a sentence; None: nothing says so. The teacher is the
    first row."""
    if not rows or rows[0].stage != "teacher":
        return None
    teacher, vocabulary = rows[0], _vocabulary(Path(rows[0].path))
    if vocabulary and teacher.val_loss >= UNIFORM_SHARE * math.log(vocabulary):
        return (
            f"the teacher's test loss of {teacher.val_loss:.3f} nats is near that of guessing among {vocabulary:,}"
            f" tokens ({math.log(vocabulary):.3f})"
        )
    for row in rows:
        interval = row.against_teacher.val_loss_ci95
        if row.stage == "prune" and not row.baseline and interval and interval[1] < 0:
            gain = -row.against_teacher.val_loss
            return f"{row.model}, a cut that nobody taught, is {gain:.3f} nats better than the teacher"
    return None


def _vocabulary(model: Path) -> int | None:
    """Entries of a model's vocabulary; None: its config cannot be read."""
    try:
        size = json.loads((model / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    except (OSError, ValueError, AttributeError):
        return None
    return size if isinstance(size, int) and size > 1 else None
