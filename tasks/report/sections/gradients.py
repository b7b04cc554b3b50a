"""The report's section on gradients while training: norms, the share of clipped steps, and the steps skipped."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from conf.report.gradients import Gradients, Skipped
from conf.report.section import Section
from conf.spec import Record
from tasks.report.model import ReportModel

STAGES = ("teacher", "distill", "sft")
POINTS = 200
"""Of a curve in the figure, at most."""
TOLD = 3
"""Skipped steps of a model that are explained."""
FIGURE = "gradients"
HEADER = ("model", "steps", "gradient norm, median", "highest", "clipped to", "steps clipped", "steps skipped")


def read_gradients(models: list[ReportModel]) -> dict[str, Gradients]:
    """The gradients of every model that was trained and whose job logged them."""
    trained = {model.model: read(Path(model.path).parent) for model in models if model.stage in STAGES}
    return {name: gradients for name, gradients in trained.items() if gradients}


def read(folder: Path) -> Gradients | None:
    """The gradients of one training; None where its job logged none."""
    if not (folder / "metrics.jsonl").is_file():
        return None
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    norms = {line["step"]: line["values"]["grad_norm"] for line in lines if "grad_norm" in line["values"]}
    if not norms:
        return None
    config = Record.model_validate_json((folder / "artifact.json").read_text()).config
    steps, spikes = sorted(norms), folder / "spikes.json"
    width = -(-len(steps) // POINTS)
    bins = [steps[start : start + width] for start in range(0, len(steps), width)]
    return Gradients(
        steps=steps[-1],
        clip_grad=config["clip_grad"],
        clipped=sum(norm > config["clip_grad"] for norm in norms.values()) / len(norms),
        median=statistics.median(norms.values()),
        highest=max(norms.values()),
        tokens=tuple(each[-1] * config["global_batch"] * config["seq_length"] for each in bins),
        norm=tuple(max(norms[step] for step in each) for each in bins),
        spikes=Skipped.model_validate_json(spikes.read_text()) if spikes.is_file() else None,
    )


def section(gradients: dict[str, Gradients]) -> Section | None:
    """The section, None where nothing was trained."""
    if not gradients:
        return None
    return Section(
        title="Gradients while training",
        sentences=tuple(
            sentence for name, each in gradients.items() for sentence in (*_skipped(name, each), *_rewound(name, each))
        ),
        header=HEADER,
        rows=tuple(_row(name, each) for name, each in gradients.items()),
        pictures={FIGURE: "Norm of the gradient before clipping; crosses are steps that were skipped."},
    )


def _skipped(name: str, gradients: Gradients) -> list[str]:
    """Which steps were skipped, and why."""
    skipped = gradients.spikes.skipped if gradients.spikes else ()
    if not skipped:
        return []
    reasons = "; ".join(f"step {each.step} because {each.reason}" for each in skipped[:TOLD])
    more = f"; {len(skipped) - TOLD} more are in its spikes.json" if len(skipped) > TOLD else ""
    count = f"{len(skipped)} of {gradients.steps} steps"
    return [f"Left out as spikes while {name} was trained: {count}, {reasons}{more}."]


def _rewound(name: str, gradients: Gradients) -> list[str]:
    """Where training went back from spikes, and what it left out."""
    rewound = gradients.spikes.rewound if gradients.spikes else ()
    if not rewound:
        return []
    told = "; ".join(f"from step {each.step} to {each.to} because {each.reason}" for each in rewound)
    left = sum(each.left_out for each in rewound)
    times = f"{len(rewound)} time{'s' if len(rewound) > 1 else ''}"
    return [f"Went back from spikes while {name} was trained: {times}, {left} batches left out, {told}."]


def _row(name: str, gradients: Gradients) -> tuple[str, ...]:
    return (
        name,
        f"{gradients.steps:,}",
        f"{gradients.median:.3g}",
        f"{gradients.highest:.3g}",
        f"{gradients.clip_grad:g}",
        f"{gradients.clipped:.1%}",
        f"{len(gradients.spikes.skipped):,}" if gradients.spikes else "not looked for",
    )
