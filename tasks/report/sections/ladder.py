"""The report's section on the ladder of formats."""

from __future__ import annotations

from conf.ladder import LadderConfig
from conf.report.ladder import LadderChoice
from conf.report.section import Section


def section(config: LadderConfig | None, ladder: dict[str, LadderChoice]) -> Section | None:
    """What each format lost and which one each student keeps; None where the recipe has no ladder."""
    if config is None or not ladder:
        return None
    rows = []
    for choice in ladder.values():
        for rung in choice.rungs:
            verdict = "kept" if rung.model == choice.kept else "within bound" if rung.inside else "beyond bound"
            lost, worst = _amount(config, rung.lost), _amount(config, rung.worst)
            rows.append((rung.model, f"{rung.bytes / 1e6:,.2f} MB", lost, worst, verdict))
    by_interval = config.confident and config.metric != "val_loss"
    compared = "the worse end of its paired 95% interval" if by_interval else "the estimate"
    return Section(
        title="Ladder of formats",
        sentences=tuple(_choice(config, student, choice) for student, choice in ladder.items()),
        header=("model", "size", "loss", "at worst", "verdict"),
        rows=tuple(rows),
        notes=(f"Loss relative to the unquantized student; {compared} is compared with the bound.",),
    )


def _choice(config: LadderConfig, student: str, choice: LadderChoice) -> str:
    bound = _amount(config, config.bound)
    if choice.kept is None:
        return f"{student} keeps no format of the ladder: each may lose more than {bound}."
    return (
        f"{student} keeps {choice.kept}, the smallest format that loses at most {bound}; the run's folder links to it"
        f" as kept-{student}."
    )


def _amount(config: LadderConfig, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4f} nats" if config.metric == "val_loss" else f"{value * 100:.1f} points"
