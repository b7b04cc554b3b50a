"""Stages of a mix: where they end, their shares, and what is refused when the recipe loads."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conf.stages.blend import BlendConfig
from conf.stages.mix import MixStage, bounds, exact, in_tokens, places, rounded, scaled_bounds


def stage(until: float, **weights: float) -> dict[str, Any]:
    return {"until": until, "weights": weights}


def blend(*stages: dict[str, Any], **more: Any) -> BlendConfig:
    """Of data, code and math."""
    sources = {name: {"source": f"{name}.txt"} for name in ("code", "math")}
    return BlendConfig.model_validate({"sources": sources, "stages": stages} | more)


def test_shares_of_a_training_are_its_sequences() -> None:
    assert bounds((0.7, 1), 240, 64) == [168, 240], "0.7 of 240, where floats give 167.99999999999997"
    assert bounds((0.25, 0.5, 1.0), 10, 64) == [3, 5, 10], "half a sequence is rounded up"
    assert bounds((0.24, 1.0), 10, 64) == [2, 10]
    assert places((0.25, 1.0), 10, 64) == [Fraction(5, 2), 10]


def test_tokens_are_the_same_sequences_in_every_training() -> None:
    for sequences in (1, 10, 10_000):
        assert bounds((1000, 2000), sequences, 64) == [16, 31], "15.6 and 31.25 sequences"
        assert bounds((32, 64, 160), sequences, 64) == [1, 1, 3]
    assert bounds((8e12, 11.1e12), 1, 4096) == [1953125000, 2709960938]


def test_samples_are_spread_over_all_stages() -> None:
    assert scaled_bounds((1000, 4000), 8) == [2, 8]
    assert scaled_bounds((0.25, 1.0), 8) == [2, 8]
    assert scaled_bounds((0.01, 1.0), 8) == [0, 8], "none of the first"


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=5, unique=True), st.integers(1, 10**9), st.integers(1, 8))
def test_bounds_rise_and_are_within_half_a_sequence(tokens: list[int], sequences: int, length: int) -> None:
    untils = [float(each) for each in sorted(tokens)]
    shares = [each / untils[-1] for each in untils]
    for found, places_of in (
        (bounds(untils, sequences, length), places(untils, sequences, length)),
        (bounds(shares, sequences, length), places(shares, sequences, length)),
    ):
        assert found == sorted(found)
        assert all(abs(end - place) <= Fraction(1, 2) for end, place in zip(found, places_of, strict=True))
    assert bounds(shares, sequences, length)[-1] == scaled_bounds(untils, sequences)[-1] == sequences


def test_numbers_are_what_was_written() -> None:
    assert exact(0.7) == Fraction(7, 10) and exact(8e12) == 8 * 10**12
    assert [rounded(Fraction(number, 4)) for number in (1, 2, 3, 4, 5, 6)] == [0, 1, 1, 1, 1, 2]
    assert not in_tokens((0.5, 1.0)) and in_tokens((1.5, 2.0))


def test_who_is_not_named_has_no_weight() -> None:
    assert MixStage(until=1, weights={"a": 3, "b": 1}).shares(["c", "b", "a"]) == {"c": 0, "b": 0.25, "a": 0.75}


NEW = stage(1, code=1, math=1)
REFUSED = {
    "overlap": (
        {"stages": [stage(0.7, code=1), stage(0.7, data=1), NEW]},
        "blend.stages.2.until is 0.7, not after 0.7, where stage 1 ends, so the two would overlap",
    ),
    "overlap in tokens": (
        {"stages": [stage(7000, code=1), stage(1e6, code=1), stage(5000, math=1)]},
        "blend.stages.3.until is 5,000, not after 1,000,000, where stage 2 ends",
    ),
    "gap": (
        {"stages": [stage(0.5, code=1), stage(0.9, math=1)]},
        "blend.stages ends at 0.9 of each training, and after that nothing is said; set until of the last stage to 1",
    ),
    "two units": (
        {"stages": [stage(0.5, code=1), stage(9000, math=1)]},
        "blend.stages.1.until is 0.5, a share of each training, but that of stage 2 is 9,000, tokens; give all in the",
    ),
    "two units, the last a share": (
        {"stages": [stage(9000, code=1), NEW]},
        "blend.stages.1.until is 9,000, tokens, but that of stage 2 is 1, a share of each training",
    ),
    "two units, a small number": (
        {"stages": [stage(1.5, code=1), NEW]},
        "blend.stages.1.until is 1.5, tokens, but that of stage 2 is 1, a share of each training",
    ),
    "part of a token": (
        {"stages": [stage(10.5, code=1, math=1)]},
        "stages.1.until is 10.5, neither whole tokens",
    ),
    "no weight": (
        {"stages": [stage(0.5, code=0, data=0), NEW]},
        "blend.stages.1.weights has no weight above 0, so it would read nothing; name a corpus, one or more of data,",
    ),
    "nothing named": ({"stages": [{"until": 1, "weights": {}}]}, "blend.stages.1.weights has no weight above 0"),
    "unknown": (
        {"stages": [stage(0.5, cod=1), NEW]},
        "blend.stages.1.weights names cod, which is no corpus of the blend; the nearest is code",
    ),
    "in no stage": (
        {"stages": [stage(0.5, data=1), stage(1, code=1, math=0)]},
        "blend.sources.math has no weight in any of blend.stages; give it one, or remove the source",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_mixed_is_refused(what: str) -> None:
    settings, sentence = REFUSED[what]
    with pytest.raises(ValidationError) as caught:
        blend(**settings)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("bad", [{"until": 0, "weights": {"data": 1}}, {"until": 1, "weights": {"data": -1}}])
def test_a_stage_has_its_bounds(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="greater than"):
        MixStage.model_validate(bad)


def test_the_recipe_s_own_corpus_may_be_in_no_stage() -> None:
    """It still gives the held-out text."""
    assert blend(NEW) and blend(stage(2, code=1), stage(3, math=1))
