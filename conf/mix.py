"""Where the stages of a blend lie in each training of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conf.cuts import round_of
from conf.recipe import Recipe
from conf.stages.blend import OWN, BlendConfig
from conf.stages.distill import DistillConfig
from conf.stages.mix import bounds, in_tokens, places
from conf.stages.phases import Span, own_rates
from conf.stages.search import SearchConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.training import Training


def trainings(recipe: Recipe) -> Iterator[tuple[str, Training]]:
    """The trainings that read the recipe's corpus, by what a sentence calls them."""
    if recipe.teacher.steps and recipe.write is None:  # who writes for the blend does not read it
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
    ends = bounds(blend.untils, config.blocks, config.block_length)
    return [min(end, config.blocks) for end in ends]


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
    exactly = places(blend.untils, config.blocks, config.block_length)
    read = [end for end in placed(blend, config) if end < config.blocks]
    unit = "block" if config.phases else "sequence"
    parts = [
        f"stage {number} to {end:,} (step {-(-end * config.block_length // config.tokens_per_step):,})"
        for number, end in enumerate([*read, config.blocks], start=1)
    ]
    told = f"{config.blocks:,} {unit}s of {config.block_length}, {', '.join(parts)}"
    if any(place.denominator > 1 for place in exactly[: len(read)]):
        told += f"; where a stage would end inside a {unit}, it ends at the nearest one's end"
    return told + (f"; it ends before stage {len(parts) + 1}" if len(parts) < len(exactly) else "")


def as_json(blend: BlendConfig | None, config: Any) -> list[dict[str, Any]] | None:
    """Where the stages of the blend end in a training on the corpus; null for other stages and without them."""
    if blend is None or not blend.stages or not isinstance(config, (TeacherConfig, DistillConfig)) or not config.steps:
        return None
    return [
        {
            "until_sequence": end,
            "until_step": -(-end * config.block_length // config.tokens_per_step),
            "until_tokens": end * config.block_length,
        }
        for end in placed(blend, config)
    ]


def phases_told(recipe: Recipe) -> list[str]:
    """The phases of each training that has them, a sentence each."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for where, config in trainings(recipe):
        if config.phases:
            alike.setdefault(tuple(_phase_told(config, span) for span in config.spans), []).append(where)
    return [f"{', '.join(dict.fromkeys(names))}: {line}" for lines, names in alike.items() for line in lines]


def _phase_told(config: Training, span: Span) -> str:
    """Where a phase lies, its sequences, its rotary embedding and its rate."""
    own = span.config
    told = (
        f"phase {span.number} of {len(config.phases)}, steps {span.start + 1:,} to {span.end:,}"
        f" ({(span.end - span.start) * config.tokens_per_step:,} tokens): {own.global_batch:,} sequences of"
        f" {own.seq_length:,} a step, {own.micro_batch} in a micro-batch"
    )
    line = ", ".join(part for part in (told, rotary_told(span), rate_told(config, span)) if part)
    return line + ("; the training ends in it" if span.end < span.until else "")


def rotary_told(span: Span) -> str | None:
    """How a phase changes the rotary embedding; None: it does not."""
    phase, parts = span.phase, []
    if phase and phase.rope_theta:
        parts.append(f"rotary base {phase.rope_theta:,.0f}")
    if phase and phase.rope_scaling:
        parts.append(f"{phase.rope_scaling.rope_type} scaling by {phase.rope_scaling.factor:g}")
    return ", ".join(parts) or None


def rate_told(config: Training, span: Span) -> str | None:
    """The learning rate of a phase; None where the section's curve goes over all of them."""
    own = span.config
    if not own_rates(config):
        return None
    rate = f"rate {own.lr:g}" + (f" to {own.min_lr:g}" if own.min_lr != own.lr else "")
    return f"{own.schedule.name} {rate}" + (f", warm-up {own.warmup_steps:,}" if own.warmup_steps else "")


def phases_as_json(config: Any) -> list[dict[str, Any]] | None:
    """The phases of a stage that trains in some, for other programs; null for any other."""
    if not isinstance(config, Training) or not config.phases:
        return None
    last = getattr(config, "until", config.steps)  # a trunk stops before
    return [_phase_as_json(config, span, min(span.end, last)) for span in config.spans if span.start < last]


def _phase_as_json(config: Training, span: Span, end: int) -> dict[str, Any]:
    """Where a phase lies up to step `end`, its sequences, what it changes of the rotary embedding, and its own rate."""
    own, phase = span.config, span.phase
    assert phase is not None, "a training with phases has them"
    rotary = {
        "rope_theta": phase.rope_theta,
        "rope_scaling": phase.rope_scaling and phase.rope_scaling.model_dump(exclude_none=True),
    }
    rate = {
        "lr": own.lr,
        "min_lr": own.min_lr,
        "warmup_steps": own.warmup_steps,
        "schedule": own.schedule.model_dump(exclude_none=True),
    }
    return {
        "first_step": span.start + 1,
        "until_step": end,
        "until_tokens": end * config.tokens_per_step,
        "seq_length": own.seq_length,
        "global_batch": own.global_batch,
        "micro_batch": own.micro_batch,
        **{name: value for name, value in rotary.items() if value},
        **(rate if own_rates(config) else {}),
    }
