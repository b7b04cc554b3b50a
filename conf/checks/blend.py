"""Checks of a blend against the training stages."""

from __future__ import annotations

from itertools import pairwise

from conf.mix import trainings
from conf.recipe import Recipe
from conf.stages.blend import BlendConfig
from conf.stages.mix import bounds, in_tokens
from conf.stages.training import Training
from conf.stages.write import WRITTEN


def check_blend(recipe: Recipe) -> None:
    """Raise ValueError for the first problem."""
    _check_written(recipe)
    if recipe.blend is None:
        return
    if recipe.stores_logits:
        raise ValueError(
            "distill.offline does not work with a blend, because logits are stored by position in a single corpus;"
            " remove one of the two"
        )
    most = recipe.blend.total
    for where, config in trainings(recipe):
        if most is not None and config.tokens > most:
            name = "blend.tokens is" if recipe.blend.tokens else "the last of blend.stages ends at"
            raise ValueError(
                f"{where} trains on {config.tokens:,} tokens ({config.steps} steps of {config.global_batch} x"
                f" {config.seq_length}) but {name} {most:,}; raise {'blend.tokens' if recipe.blend.tokens else 'it'} or"
                " choose fewer steps"
            )
        if recipe.blend.stages:
            _check_stages(recipe.blend, where, config)
    _check_branches(recipe, recipe.blend)


def _check_written(recipe: Recipe) -> None:
    """What the teacher writes must be one source of the blend."""
    sources = recipe.blend.sources if recipe.blend else {}
    named = [name for name, each in sources.items() if each.source == WRITTEN]
    if recipe.write and not named:
        raise ValueError(
            f"write is set but no source of the blend is '{WRITTEN}'; add blend.sources.NAME.source: {WRITTEN}, or"
            " remove write"
        )
    for name in named:
        each = sources[name]
        if recipe.write is None:
            raise ValueError(
                f"blend.sources.{name}.source is '{WRITTEN}' but the recipe has no write section; set write.documents"
            )
        if name != named[0]:
            raise ValueError(
                f"blend.sources.{name}.source is '{WRITTEN}', and so is that of {named[0]}; remove one of the two"
            )
        if (each.text_field, each.join) != ("text", "auto"):
            raise ValueError(
                f"blend.sources.{name} sets text_field or join, but what the teacher writes has one form; remove them"
            )


def _check_stages(blend: BlendConfig, where: str, config: Training) -> None:
    """Every stage that a training reaches has a sequence of it."""
    ends = bounds(blend.untils, config.blocks, config.block_length)
    for number, (start, end) in enumerate(pairwise([0, *ends]), start=1):
        if start == end and (start < config.blocks or not in_tokens(blend.untils)):
            pieces = "blocks" if config.phases else "sequences"
            raise ValueError(
                f"{where} reads {config.blocks:,} {pieces} of {config.block_length} tokens, none of which is in stage"
                f" {number} of blend.stages; choose more steps, or a longer stage"
            )


def _check_branches(recipe: Recipe, blend: BlendConfig) -> None:
    """Trainings of other lengths share their first steps only where stages end at tokens."""
    if not blend.stages or in_tokens(blend.untils):
        return
    for name, student in recipe.students.items():
        if student.branches is not None:
            raise ValueError(
                f"students.{name}.branches shares the first steps of trainings, but blend.stages end at shares of each"
                " training, so shorter ones read other text from the start; give until in tokens"
            )
