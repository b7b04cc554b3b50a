"""A mix that changes over training: its stages, and the sequences at which they end."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from conf.base import Config


class MixStage(Config):
    """One stage of a mix: where it ends, and what it is mixed of."""

    until: float = Field(
        gt=0, description="Where it ends: tokens of a training, or up to 1 a share of each training. The last one: 1."
    )
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        description="Weight of each corpus, relative to the others; one that is not named has none."
    )

    def shares(self, corpora: Iterable[str]) -> dict[str, float]:
        """Normalized weight of each corpus; 0 where it has none."""
        weights = {name: self.weights.get(name, 0.0) for name in corpora}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}


def in_tokens(untils: Sequence[float]) -> bool:
    """Whether stages end at numbers of tokens; else at shares of each training."""
    return untils[-1] > 1


def bounds(untils: Sequence[float], sequences: int, seq_length: int) -> list[int]:
    """The sequence of a training of `sequences` before which each stage ends. A bound inside a sequence is rounded to
    the nearest one, up from half. Where stages end at tokens, the last bounds may lie beyond the training."""
    return [rounded(place) for place in places(untils, sequences, seq_length)]


def places(untils: Sequence[float], sequences: int, seq_length: int) -> list[Fraction]:
    """The same, not rounded."""
    size = Fraction(1, seq_length) if in_tokens(untils) else Fraction(sequences)
    return [exact(until) * size for until in untils]


def scaled_bounds(untils: Sequence[float], sequences: int) -> list[int]:
    """The same for `sequences` samples of the whole mix, as calibration takes them: each stage has its part of them,
    which may be none."""
    return [rounded(exact(until) / exact(untils[-1]) * sequences) for until in untils]


def exact(until: float) -> Fraction:
    """The number as it was written: 0.7 is 7/10, which no float is."""
    return Fraction(str(until))


def rounded(value: Fraction) -> int:
    """To the nearest whole number, up from half."""
    return int((value + Fraction(1, 2)) // 1)


def check_stages(stages: Sequence[MixStage], corpora: Sequence[str]) -> None:
    """Raise ValueError for the first stage that cannot be honoured: bounds that overlap or leave a gap, and weights
    that name no corpus. `corpora`: all names, the recipe's own first."""
    for number, stage in enumerate(stages, start=1):
        where = f"blend.stages.{number}"
        _check_until(where, stages, number)
        for name in stage.weights:
            if name not in corpora:
                nearest = difflib.get_close_matches(name, corpora, n=1, cutoff=0.0)[0]
                raise ValueError(
                    f"{where}.weights names {name}, which is no corpus of the blend; the nearest is {nearest}"
                )
        if not any(stage.weights.values()):
            raise ValueError(
                f"{where}.weights has no weight above 0, so it would read nothing; name a corpus, one or more of"
                f" {', '.join(corpora)}"
            )
    last = stages[-1].until
    if last < 1:
        raise ValueError(
            f"blend.stages ends at {last:g} of each training, and after that nothing is said; set until of the last"
            " stage to 1"
        )
    for name in corpora[1:]:
        if not any(stage.weights.get(name) for stage in stages):
            raise ValueError(
                f"blend.sources.{name} has no weight in any of blend.stages; give it one, or remove the source"
            )


def _check_until(where: str, stages: Sequence[MixStage], number: int) -> None:
    """One stage's bound: of the same kind as the last one's, and after the one before."""
    until, last = stages[number - 1].until, stages[-1].until
    if in_tokens([last]) != in_tokens([until]):
        raise ValueError(
            f"{where}.until is {_told(until)}, {_kind(until)}, but that of stage {len(stages)} is {_told(last)},"
            f" {_kind(last)}; give all in the same unit"
        )
    if in_tokens([until]) and not until.is_integer():
        raise ValueError(f"{where}.until is {until:g}, neither whole tokens nor a share up to 1; choose one of them")
    if number > 1 and until <= (before := stages[number - 2].until):
        raise ValueError(
            f"{where}.until is {_told(until)}, not after {_told(before)}, where stage {number - 1} ends, so the two"
            " would overlap; give until in rising order"
        )


def _told(until: float) -> str:
    return f"{until:,.0f}" if until.is_integer() else f"{until:g}"


def _kind(until: float) -> str:
    return "tokens" if in_tokens([until]) else "a share of each training"
