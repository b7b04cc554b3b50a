"""The report's section on gradients while training: norms, the share of clipped steps, the steps skipped, and the
largest attention logits where they were logged."""

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
NORM, LOGIT = "grad_norm", "max_attention_logit"
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
    norms, logits = (
        {line["step"]: line["values"][name] for line in lines if name in line["values"]} for name in (NORM, LOGIT)
    )
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
        attention_logit=_largest(logits, bins),
        bound=(config.get("optimizer") or {}).get("qk_clip"),
        spikes=Skipped.model_validate_json(spikes.read_text()) if spikes.is_file() else None,
    )


def _largest(logits: dict[int, float], bins: list[list[int]]) -> tuple[float, ...]:
    """The largest logit of each point; a skipped step has none, and a point without any that of the one before."""
    if not logits:
        return ()
    found = [logits[min(logits)]]
    for each in bins:
        found.append(max((logits[step] for step in each if step in logits), default=found[-1]))
    return tuple(found[1:])


def section(gradients: dict[str, Gradients]) -> Section | None:
    """The section, None where nothing was trained."""
    if not gradients:
        return None
    watched = any(each.attention_logit for each in gradients.values())
    below = " Below it, the largest attention logit of any head; dotted: its bound." if watched else ""
    return Section(
        title="Gradients while training",
        sentences=tuple(
            sentence for name, each in gradients.items() for sentence in (*_skipped(name, each), *_rewound(name, each))
        ),
        header=HEADER,
        rows=tuple(_row(name, each) for name, each in gradients.items()),
        pictures={FIGURE: f"Norm of the gradient before clipping; crosses are steps that were skipped.{below}"},
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
