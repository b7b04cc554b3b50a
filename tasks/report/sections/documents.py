"""The report's section on trainings whose documents were kept apart inside their sequences."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from conf.report.documents import KeptApart
from conf.report.section import Section
from tasks.report.model import ReportModel

STAGES = ("teacher", "distill")
METRICS = {"documents": "documents_per_sequence", "mixed": "mixed_sequences", "left_out": "targets_left_out"}
HEADER = ("model", "documents a sequence", "sequences with more than one", "targets left out")


def read_documents(models: list[ReportModel]) -> dict[str, KeptApart]:
    """What each training kept apart, of those that did."""
    found = {model.model: _read(Path(model.path).parent / "metrics.jsonl") for model in models if model.stage in STAGES}
    return {name: kept for name, kept in found.items() if kept}


def section(documents: dict[str, KeptApart]) -> Section | None:
    """The section, None where no training kept documents apart."""
    if not documents:
        return None
    return Section(
        title="Documents kept apart",
        header=HEADER,
        rows=tuple(
            (name, f"{kept.documents:.2f}", f"{kept.mixed:.1%}", f"{kept.left_out:.2%}")
            for name, kept in documents.items()
        ),
        notes=(
            "Inside a training sequence, and in validation while training, no token attends to another document, and"
            " what follows a document's end is not learned. The losses of the main table are of whole sequences.",
        ),
    )


def _read(metrics: Path) -> KeptApart | None:
    """Means over steps; if a resumed job repeated one, its last line counts."""
    lines = [json.loads(text) for text in metrics.read_text().splitlines()] if metrics.is_file() else []
    steps = {line["step"]: line["values"] for line in lines if METRICS["documents"] in line["values"]}
    if not steps:
        return None
    means = {name: statistics.fmean(each[key] for each in steps.values()) for name, key in METRICS.items()}
    return KeptApart.model_validate(means)
