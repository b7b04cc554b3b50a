"""Where the stages of a blend lie in each training of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conf.cuts import round_of
from conf.recipe import Recipe
from conf.stages.blend import OWN, BlendConfig
from conf.stages.distill import DistillConfig
from conf.stages.mix import bounds, in_tokens, places
from conf.stages.search import SearchConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.training import Training


def trainings(recipe: Recipe) -> Iterator[tuple[str, Training]]:
    """The trainings that read the recipe's corpus, by what a sentence calls them."""
    if recipe.teacher.steps:
        yield "teacher", recipe.teacher
    for name, student in recipe.students.items():
        for number in range(len(student.rounds or (None,))):
            config = recipe.distill_of(name, number)
            if config and config.steps:
                yield f"distill of {name}", config
                yield from _search_rounds(name, student.search, config)
        for form in recipe.formats_of(name):
            if form.qad:
                yield f"quantize.qad of {name} ({form.name})", form.qad


def _search_rounds(name: str, search: SearchConfig | None, config: DistillConfig) -> Iterator[tuple[str, Training]]:
    """The short distillations that compare the candidates of a search."""
    for number in range(len(search.halving.sizes(search.candidates)) if search else 0):
        assert search is not None
        yield f"round {number + 1} of the search of {name}", round_of(config, search.halving, number)


def placed(blend: BlendConfig, config: Training) -> list[int]:
    """The sequence of a training before which each stage ends, at most its last."""
    ends = bounds(blend.untils, config.sequences, config.seq_length)
    return [min(end, config.sequences) for end in ends]


def mix_told(recipe: Recipe) -> list[str]:
    """What the stages of the blend are mixed of, and where each training reads them, a sentence each."""
    blend = recipe.blend
    if blend is None or not blend.stages:
        return []
    lines = []
    for number, stage in enumerate(blend.stages, start=1):
        shares = {name: share for name, share in stage.shares((OWN, *blend.sources)).items() if share}
        end = f"{stage.until:,.0f} tokens" if in_tokens(blend.untils) else f"{stage.until:.6g} of each training"
        mixed = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
        lines.append(f"blend, stage {number} of {len(blend.stages)}, until {end}: {mixed}")
    alike: dict[str, list[str]] = {}
    for where, config in trainings(recipe):
        alike.setdefault(_placed_told(blend, config), []).append(where)
    return lines + [f"{', '.join(dict.fromkeys(names))}: {sentence}" for sentence, names in alike.items()]


def _placed_told(blend: BlendConfig, config: Training) -> str:
    """Which sequences of a training each stage has, and whether its bounds lay inside of sequences."""
    exactly = places(blend.untils, config.sequences, config.seq_length)
    read = [end for end in placed(blend, config) if end < config.sequences]
    parts = [
        f"stage {number} to {end:,} (step {-(-end // config.global_batch):,})"
        for number, end in enumerate([*read, config.sequences], start=1)
    ]
    told = f"{config.sequences:,} sequences of {config.seq_length}, {', '.join(parts)}"
    if any(place.denominator > 1 for place in exactly[: len(read)]):
        told += "; where a stage would end inside a sequence, it ends at the nearest one's end"
    return told + (f"; it ends before stage {len(parts) + 1}" if len(parts) < len(exactly) else "")


def as_json(blend: BlendConfig | None, config: Any) -> list[dict[str, Any]] | None:
    """Where the stages of the blend end in a training on the corpus; null for other stages and without them."""
    if blend is None or not blend.stages or not isinstance(config, (TeacherConfig, DistillConfig)) or not config.steps:
        return None
    return [
        {"until_sequence": end, "until_step": -(-end // config.global_batch), "until_tokens": end * config.seq_length}
        for end in placed(blend, config)
    ]
