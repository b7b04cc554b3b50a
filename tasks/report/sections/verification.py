"""The report's section on models that an inference engine opened: its losses against the simulation's."""

from __future__ import annotations

from pathlib import Path

from conf.engines.table import ENGINES
from conf.report.quantization import Verified
from conf.report.section import Section
from tasks.report.model import ReportModel


def read_verified(models: list[ReportModel]) -> dict[str, Verified]:
    """verify.json of each model that has one."""
    return {
        model.model: Verified.model_validate_json((Path(model.verified) / "verify.json").read_text())
        for model in models
        if model.verified
    }


def section(verified: dict[str, Verified]) -> Section | None:
    """A row per model; None where no engine was asked."""
    if not verified:
        return None
    rows = tuple(
        (
            model,
            f"{_title(found)} {found.version}{' on a CPU' if found.on_cpu else ''}",
            f"{found.loss:.4f}",
            f"{found.simulated_loss:.4f}",
            f"{found.difference:+.4f} ({found.difference_ci95[0]:+.4f} to {found.difference_ci95[1]:+.4f})",
            f"{found.max_difference:g}",
            ", ".join(found.kernels) or "-",
        )
        for model, found in verified.items()
    )
    sizes = {(found.sequences, found.tokens) for found in verified.values()}
    return Section(
        title="Opened by an engine",
        header=("model", "engine", "loss there", "loss simulated", "difference (95%)", "bound", "kernels"),
        rows=rows,
        notes=(
            "Losses in nats per token of the same "
            + " or ".join(f"{sequences:,} sequences ({tokens:,} tokens)" for sequences, tokens in sorted(sizes))
            + " of the test split; the difference is paired by sequence (Student's t). Single tokens differ more, where"
            " kernels round inputs the other way.",
            *(
                f"{model}: the engine's key-value cache was {found.cache} there, not the model's own."
                for model, found in verified.items()
                if not found.cache_verified
            ),
        ),
    )


def _title(found: Verified) -> str:
    return next((engine.title for name, engine in ENGINES.items() if name == found.engine), found.engine)
