"""The report's section on the sweep: what cutting each axis alone costs."""

from __future__ import annotations

from conf.report.pruning import Sweep
from conf.report.section import Section
from conf.stages.candidate_score import Axis
from tasks.report.sections.pruning import AXIS_NAMES


def section(sweep: Sweep | None) -> Section | None:
    """A row for each cut; None where the run has no sweep."""
    if sweep is None:
        return None
    teacher = sweep.teacher
    rows = tuple(
        (
            AXIS_NAMES[point.axis],
            f"{point.size} of {point.of}",
            f"{point.params:,} ({point.params / teacher.params:.0%})",
            f"{point.val_loss:.4f}",
            f"{point.val_loss - teacher.val_loss:+.4f}",
            f"{point.kl:.4f}",
        )
        for point in sweep.points
    )
    return Section(
        title="Cost of each axis",
        sentences=tuple(_extremes(sweep)),
        header=("axis", "kept", "params", "loss after cut", "Δ teacher", "KL(teacher ‖ cut)"),
        rows=rows,
        notes=(
            (
                "Each row is the teacher cut along one axis, without distillation; nats per token on the validation"
                " split."
            ),
        ),
        pictures={
            "sweep": (
                "Validation loss of the teacher cut along one axis, without distillation, against the share of"
                " parameters kept."
            )
        },
    )


def cost_per_percent(sweep: Sweep) -> dict[Axis, float]:
    """Nats lost per percent of the parameters saved, at the deepest cut of each axis."""
    costs: dict[Axis, float] = {}
    for point in sweep.points:  # the last point of an axis is its deepest cut
        saved = 100 * (1 - point.params / sweep.teacher.params)
        costs[point.axis] = (point.val_loss - sweep.teacher.val_loss) / saved
    return costs


def _extremes(sweep: Sweep) -> list[str]:
    costs = cost_per_percent(sweep)
    if len(costs) < 2:
        return []
    order = sorted(costs, key=lambda axis: costs[axis])
    return [
        f"At the deepest cut measured, {AXIS_NAMES[order[0]]} cost least, {costs[order[0]]:+.4f} nats per percent of"
        f" the parameters saved, and {AXIS_NAMES[order[-1]]} cost most, {costs[order[-1]]:+.4f}."
    ]
