"""The report's section on the ladder of formats."""

from __future__ import annotations

from conf.ladder import LadderConfig
from conf.recipe import Recipe
from conf.report.ladder import LadderChoice
from conf.report.section import Section


def section(recipe: Recipe, ladder: dict[str, LadderChoice]) -> Section | None:
    """What each rung lost and which is kept; None where the recipe has no ladder."""
    config = recipe.ladder
    if config is None or not ladder:
        return None
    rows, sentences = [], []
    for student, choice in ladder.items():
        bound = _amount(config, config.bound)
        sentences.append(
            f"{student} keeps {choice.kept}, the smallest format that loses at most {bound}; the run's folder links it"
            f" as kept-{student}."
            if choice.kept
            else f"{student} keeps no format of the ladder: each may lose more than {bound}."
        )
        for rung in choice.rungs:
            verdict = "kept" if rung.model == choice.kept else "inside" if rung.inside else "outside"
            size, losses = f"{rung.bytes / 1e6:,.2f} MB", (_amount(config, rung.lost), _amount(config, rung.worst))
            rows.append((rung.model, size, *losses, verdict))
    worst = (
        "the worse end of its paired 95% interval" if config.confident and config.metric == "mmlu" else "the estimate"
    )
    return Section(
        title="The ladder of formats",
        sentences=tuple(sentences),
        header=("model", "size", "lost", "at worst", "verdict"),
        rows=tuple(rows),
        notes=(f"Lost against the student before quantization; {worst} is held against the bound.",),
    )


def _amount(config: LadderConfig, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4f} nats" if config.metric == "val_loss" else f"{value * 100:.1f} points"
