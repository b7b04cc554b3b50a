"""The report's section on the ladder of formats."""

from __future__ import annotations

from conf.ladder import LadderConfig
from conf.recipe import Recipe
from tasks.analysis.ladder import Ladder
from tasks.report.section import Section


def section(recipe: Recipe, ladder: Ladder) -> Section | None:
    """What each rung lost and which is kept; None where the recipe has no ladder."""
    config = recipe.ladder
    if config is None or not ladder:
        return None
    rows, sentences = [], []
    for student, told in ladder.items():
        bound = _told(config, config.bound)
        sentences.append(
            f"{student} keeps {told['kept']}, the smallest format that loses at most {bound}; the run's folder links it"
            f" as kept-{student}."
            if told["kept"]
            else f"{student} keeps no format of the ladder: each may lose more than {bound}."
        )
        for rung in told["rungs"]:
            verdict = "kept" if rung["model"] == told["kept"] else "inside" if rung["inside"] else "outside"
            rows.append(
                (
                    rung["model"],
                    f"{rung['bytes'] / 1e6:,.2f} MB",
                    _told(config, rung["lost"]),
                    _told(config, rung["worst"]),
                    verdict,
                )
            )
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


def _told(config: LadderConfig, value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4f} nats" if config.metric == "val_loss" else f"{value * 100:.1f} points"
