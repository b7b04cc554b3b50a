"""The report's section on stored logits: how much of the teacher's probability they cover, and their size."""

from __future__ import annotations

import json
from pathlib import Path

from conf.report.logits import StoredLogits
from conf.report.section import Section


def read_logits(folder: str | None) -> StoredLogits | None:
    """The summary of a logits artifact; None where the run has none."""
    if folder is None:
        return None
    manifest = json.loads((Path(folder) / "logits.json").read_text())
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return StoredLogits(
        top_k=manifest["top_k"], vocab_size=manifest["vocab_size"], bytes=size, splits=manifest["splits"]
    )


def section(stored: StoredLogits | None) -> Section | None:
    """The section, None where no student was distilled from stored logits."""
    if stored is None:
        return None
    tokens = sum(split.rows for split in stored.splits.values())
    train, validation = (stored.splits[name].left_out for name in ("train", "validation"))
    return Section(
        title="Stored logits",
        sentences=(
            (
                f"Offline distillation reads the teacher's top {stored.top_k} logits of {stored.vocab_size:,} per"
                f" token: {tokens:,} tokens, {stored.bytes / 1e6:,.1f} MB, {stored.bytes / tokens:.0f} bytes per token."
                " The teacher was not loaded."
            ),
            (
                f"The stored logits leave out {train:.2%} of the teacher's probability on the training tokens and"
                f" {validation:.2%} on the validation tokens."
            ),
        ),
    )
