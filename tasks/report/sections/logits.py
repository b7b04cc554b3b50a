"""The report's section on stored logits: how much of the teacher was kept, and what it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.section import Section


def read(folder: str | None) -> dict[str, Any] | None:
    """What the report tells of a logits artifact; None where the run has none."""
    if folder is None:
        return None
    manifest = json.loads((Path(folder) / "logits.json").read_text())
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    splits = {
        name: {"rows": split["rows"], "left_out": split["left_out"]} for name, split in manifest["splits"].items()
    }
    return {"top_k": manifest["top_k"], "vocab_size": manifest["vocab_size"], "bytes": size, "splits": splits}


def section(report: dict[str, Any]) -> Section | None:
    """The section, None where no student was taught from stored logits."""
    stored = report["logits"]
    if stored is None:
        return None
    tokens = sum(split["rows"] for split in stored["splits"].values())
    return Section(
        title="Stored logits",
        sentences=(
            (
                f"Students taught offline read the teacher's {stored['top_k']} likeliest of {stored['vocab_size']:,}"
                f" tokens: {tokens:,} rows, {stored['bytes'] / 1e6:,.1f} MB, {stored['bytes'] / tokens:.0f} bytes each."
                " The teacher was not loaded."
            ),
            (
                f"What is not stored holds {stored['splits']['train']['left_out']:.2%} of the teacher's probability on"
                f" the training tokens, {stored['splits']['validation']['left_out']:.2%} on the validation tokens."
            ),
        ),
    )
