"""The report's section on stored logits: how much of the teacher was kept, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path

from conf.report.logits import StoredLogits
from conf.report.report import Report
from conf.report.section import Section


def read(folder: str | None) -> StoredLogits | None:
    """What the report says of a logits artifact; None where the run has none."""
    if folder is None:
        return None
    manifest = json.loads((Path(folder) / "logits.json").read_text())
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return StoredLogits(
        top_k=manifest["top_k"], vocab_size=manifest["vocab_size"], bytes=size, splits=manifest["splits"]
    )


def section(report: Report) -> Section | None:
    """The section, None where no student was taught from stored logits."""
    stored = report.logits
    if stored is None:
        return None
    tokens = sum(split.rows for split in stored.splits.values())
    train, validation = (stored.splits[name].left_out for name in ("train", "validation"))
    return Section(
        title="Stored logits",
        sentences=(
            (
                f"Students taught offline read the teacher's {stored.top_k} likeliest of {stored.vocab_size:,} tokens:"
                f" {tokens:,} rows, {stored.bytes / 1e6:,.1f} MB, {stored.bytes / tokens:.0f} bytes each. The teacher"
                " was not loaded."
            ),
            (
                f"What is not stored holds {train:.2%} of the teacher's probability on the training tokens,"
                f" {validation:.2%} on the validation tokens."
            ),
        ),
    )
