"""Phases of a training: by tokens, each with its sequence length, rotary embedding and curve of the learning rate.

A step has the same number of tokens in all phases, so the sequences of a step and of a micro-batch change with their
length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from conf.base import Config
from conf.stages.mix import exact, in_tokens, rounded
from conf.stages.schedule import Schedule, check_rate

if TYPE_CHECKING:
    from conf.stages.training import Training

RATES = ("lr", "min_lr", "warmup_steps", "schedule")
"""Settings that give the phases learning rates of their own."""


class RopeScaling(Config):
    """A scaling of the rotary embedding, with the names of config.json."""

    rope_type: Literal["linear", "llama3", "yarn"] = Field(description="Kind of the scaling.")
    factor: float = Field(gt=1, description="How many times longer sequences become.")
    original_max_position_embeddings: int | None = Field(
        default=None, ge=8, description="llama3, yarn: the length before; empty: the model's before this phase."
    )
    low_freq_factor: float | None = Field(default=None, gt=0, description="llama3: where scaling is whole.")
    high_freq_factor: float | None = Field(default=None, gt=0, description="llama3: where scaling begins.")
    beta_fast: float | None = Field(default=None, gt=0, description="yarn: where scaling begins; empty: 32.")
    beta_slow: float | None = Field(default=None, gt=0, description="yarn: where scaling is whole; empty: 1.")
    attention_factor: float | None = Field(
        default=None, gt=0, description="yarn: factor on cosines and sines; empty: 0.1 ln(factor) + 1."
    )


class Phase(Config):
    """One phase. What it does not state is as in the phase before, in the first one as in the section; a curve of the
    learning rate is constant unless it is stated."""

    until: float = Field(gt=0, description="Where it ends: tokens, or up to 1 a share of the training. The last: 1.")
    seq_length: int | None = Field(default=None, ge=8, description="Tokens per sequence.")
    rope_theta: float | None = Field(default=None, gt=0, description="Base of the rotary embedding from here on.")
    rope_scaling: RopeScaling | None = Field(default=None, description="Scaling of the rotary embedding from here on.")
    lr: float | None = Field(default=None, gt=0, description="Peak learning rate.")
    min_lr: float | None = Field(
        default=None, ge=0, description="Rate at its end; empty: lr if its schedule is constant, else the section's."
    )
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Linear warm-up steps from 0; empty: the section's in the first phase, then none."
    )
    schedule: Schedule | None = Field(default=None, description="Curve of the rate in its steps; empty: constant.")

    @field_validator("schedule", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def slower(self, factor: float) -> Phase:
        """With its rates times `factor`."""
        rates = {name: value * factor for name in ("lr", "min_lr") if (value := getattr(self, name)) is not None}
        return self.model_copy(update=rates)

    @property
    def turns(self) -> bool:
        """Whether it changes the rotary embedding."""
        return self.rope_theta is not None or self.rope_scaling is not None


@dataclass(frozen=True, kw_only=True)
class Span:
    """The steps [start, end) of a phase, numbered from 1, with the settings of a training of these steps alone."""

    number: int
    start: int
    end: int
    until: int
    """Where it would end if the training went on; its text is drawn up to there, so that shorter trainings read what
    longer ones begin with."""
    config: Training
    phase: Phase | None = None

    def __contains__(self, step: int) -> bool:
        return self.start <= step < self.end


def spans(config: Training) -> tuple[Span, ...]:
    """The phases of a training that it comes to, or all of it as one."""
    if not config.phases:
        return (Span(number=1, start=0, end=config.steps, until=config.steps, config=config),)
    own = own_rates(config)
    found: list[Span] = []
    length, rate = config.seq_length, config.lr
    for number, (phase, (start, end)) in enumerate(zip(config.phases, pairwise([0, *ends(config)]), strict=True), 1):
        if start >= config.steps < end:
            break
        length, rate = phase.seq_length or length, phase.lr or rate
        rows: dict[str, Any] = {
            "seq_length": length,
            "global_batch": config.tokens_per_step // length,
            "micro_batch": config.micro_batch * config.seq_length // length,
            "phases": (),
        }
        if own:
            schedule = phase.schedule or Schedule(name="constant")
            floor = rate if schedule.name == "constant" else config.min_lr
            warm = config.warmup_steps if number == 1 else 0
            rows |= {
                "steps": end - start,
                "lr": rate,
                "min_lr": floor if phase.min_lr is None else phase.min_lr,
                "warmup_steps": warm if phase.warmup_steps is None else phase.warmup_steps,
                "schedule": schedule,
            }
        settings, reached = config.model_copy(update=rows), min(end, config.steps)
        found.append(Span(number=number, start=start, end=reached, until=end, config=settings, phase=phase))
    return tuple(found)


def own_rates(config: Training) -> bool:
    """Whether each phase has a learning rate of its own; else the section's curve goes over all of them."""
    return any(getattr(phase, name) is not None for phase in config.phases for name in RATES)


def ends(config: Training) -> list[int]:
    """The step after which each phase ends; a bound inside a step goes to the nearest one's end."""
    untils = [phase.until for phase in config.phases]
    if in_tokens(untils):
        return [rounded(exact(until) / config.tokens_per_step) for until in untils]
    return [rounded(exact(until) * config.steps) for until in untils]


def block_length(config: Training) -> int:
    """Tokens of the blocks in which a training with phases reads its text: whole sequences of every length."""
    return math.lcm(*(phase.seq_length for phase in config.phases if phase.seq_length), config.seq_length)


def check_phases(config: Training) -> None:
    """Raise ValueError for the first phase that cannot be honoured."""
    if not config.phases:
        return
    if not config.steps:
        raise ValueError("phases are set but steps is 0, so nothing is trained; remove phases or train")
    for number in range(1, len(config.phases) + 1):
        _check_until(config, number)
    _check_last(config)
    for number, phase in enumerate(config.phases, 1):
        if phase.seq_length:
            _check_length(config, number, phase.seq_length)
    for span in spans(config):
        if span.start == span.end:
            raise ValueError(
                f"phases.{span.number} has none of the {config.steps} steps; choose more steps or a longer phase"
            )
        if own_rates(config):
            check_rate(span.config, f"phases.{span.number}.")


def _check_until(config: Training, number: int) -> None:
    """A bound: of the same kind as the last one's, and after the one before."""
    untils = [phase.until for phase in config.phases]
    until, where = untils[number - 1], f"phases.{number}.until"
    if in_tokens([until]) != in_tokens(untils):
        kinds = ("tokens", "a share of the training")
        one, last = kinds if in_tokens([until]) else kinds[::-1]
        raise ValueError(
            f"{where} is {told(until)}, {one}, but that of the last phase is {told(untils[-1])}, {last}; give all in"
            " the same unit"
        )
    if until > 1 and not until.is_integer():
        raise ValueError(f"{where} is {until:g}, neither whole tokens nor a share up to 1; choose one of them")
    if number > 1 and until <= untils[number - 2]:
        raise ValueError(
            f"{where} is {told(until)}, not after {told(untils[number - 2])}, where phase {number - 1} ends, so the two"
            " would overlap; give until in rising order"
        )


def _check_last(config: Training) -> None:
    """The last phase ends with the training."""
    last = config.phases[-1].until
    if last < 1 and ends(config)[-1] != config.steps:
        raise ValueError(
            f"phases end at {last:g} of the training, and after that nothing is said; set until of the last one to 1"
        )
    if ends(config)[-1] < config.steps:
        raise ValueError(_elsewhere(config, "phases end", "and after that nothing is said"))


def check_reached(where: str, config: Training) -> None:
    """Raise ValueError for phases that go on after the end of a training that no longer one shares steps with."""
    if config.phases and ends(config)[-1] > config.steps:
        raise ValueError(_elsewhere(config, f"phases of {where} end", "which it never reaches"))


def _elsewhere(config: Training, phases_end: str, gap: str) -> str:
    return (
        f"{phases_end} at {told(config.phases[-1].until)} tokens, {gap}: steps {config.steps} have {config.tokens:,}"
        f" tokens; set until of the last one to {config.tokens}, or change steps"
    )


def _check_length(config: Training, number: int, length: int) -> None:
    """A step and a micro-batch have whole sequences of this length."""
    for name, rows in (("global_batch", config.global_batch), ("micro_batch", config.micro_batch)):
        if rows * config.seq_length % length:
            raise ValueError(
                f"phases.{number}.seq_length is {length}, which does not divide the {rows * config.seq_length} tokens"
                f" of {name} {rows} x seq_length {config.seq_length}, and these stay the same in all phases; choose a"
                f" divisor or another {name}"
            )


def told(until: float) -> str:
    """A bound as a recipe's reader would write it."""
    return f"{until:,.0f}" if until.is_integer() and until > 1 else f"{until:g}"
