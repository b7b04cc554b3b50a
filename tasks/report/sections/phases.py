"""The report's section on trainings in phases: what each phase was, and the loss at its end."""

from __future__ import annotations

import json
from pathlib import Path

from conf.mix import rate_told, rotary_told
from conf.report.phases import TrainedPhase
from conf.report.section import Section
from conf.spec import Record
from conf.stages.distill import DistillConfig
from conf.stages.phases import Span
from conf.stages.teacher import TeacherConfig
from tasks.report.model import ReportModel

STAGES: dict[str, type[TeacherConfig | DistillConfig]] = {"teacher": TeacherConfig, "distill": DistillConfig}
HEADER = ("model", "phase", "steps", "tokens", "sequences of", "rotary embedding", "rate", "validation loss")


def read_phases(models: list[ReportModel]) -> tuple[TrainedPhase, ...]:
    """The phases of every model that was trained in some, none without."""
    found: list[TrainedPhase] = []
    for model in models:
        record = Path(model.path).parent / "artifact.json"
        if model.stage not in STAGES or not record.is_file():
            continue
        settings = Record.model_validate_json(record.read_text()).config
        if settings.get("phases"):
            config = STAGES[model.stage].model_validate(settings)
            losses = _losses(record.with_name("metrics.jsonl"))
            found += [_trained(model.model, config, span, losses) for span in config.spans]
    return tuple(found)


def section(phases: tuple[TrainedPhase, ...]) -> Section | None:
    """The section, None where all was trained in one phase."""
    if not phases:
        return None
    return Section(
        title="Phases of training",
        header=HEADER,
        rows=tuple(_row(phase) for phase in phases),
        notes=(
            "The validation loss, in nats per token, is that of the last validation in a phase, over sequences of one"
            " length in all phases.",
        ),
    )


def _trained(model: str, config: TeacherConfig | DistillConfig, span: Span, losses: dict[int, float]) -> TrainedPhase:
    inside = [losses[step] for step in sorted(losses) if span.start < step <= span.end]
    return TrainedPhase(
        model=model,
        phase=span.number,
        start=span.start,
        end=span.end,
        tokens=(span.end - span.start) * config.tokens_per_step,
        seq_length=span.config.seq_length,
        rotary=rotary_told(span),
        rate=rate_told(config, span),
        val_loss=inside[-1] if inside else None,
    )


def _losses(metrics: Path) -> dict[int, float]:
    lines = [json.loads(text) for text in metrics.read_text().splitlines()] if metrics.is_file() else []
    return {line["step"]: line["values"]["val_loss"] for line in lines if "val_loss" in line["values"]}


def _row(phase: TrainedPhase) -> tuple[str, ...]:
    return (
        phase.model,
        str(phase.phase),
        f"{phase.start + 1:,} to {phase.end:,}",
        f"{phase.tokens:,}",
        f"{phase.seq_length:,}",
        phase.rotary or "as before",
        phase.rate or "the training's curve",
        "-" if phase.val_loss is None else f"{phase.val_loss:.4f}",
    )
