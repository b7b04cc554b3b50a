"""What a verification scores, which formats it covers, and its documented bounds."""

from __future__ import annotations

import pytest

from conf.estimate import memory, passes
from conf.shape import num_params
from conf.stages.verify import BOUNDS, VerifyConfig
from tests.fixtures.stages import STUDENT, estimate, refused


def test_a_verification_scores_the_text_twice() -> None:
    """By the engine, then by the simulation."""
    numbers = estimate(VerifyConfig(sequences=5, seq_length=16, batch=3))
    assert (numbers.tokens, numbers.params) == (2 * 5 * 16, num_params(STUDENT))
    batch = passes.ForwardPass(sequences=3, seq_length=16, precision="bf16", device="cpu")
    assert numbers.job and numbers.job.peak("cpu") == memory.scoring(STUDENT, num_params(STUDENT), batch)
    assert numbers.job.peak("cpu").weights == 2 * num_params(STUDENT), "one copy at a time"


def test_verification_bounds_are_the_documented_ones() -> None:
    told = VerifyConfig.model_fields["max_difference"].description or ""
    assert (BOUNDS[16], BOUNDS[8], BOUNDS[4]) == (0.003, 0.02, 0.05)
    assert "0.003 for 16-bit weights, 0.02 for 8-bit and 0.05 for 4-bit ones" in told


@pytest.mark.parametrize(("formats", "covered"), [((), True), (("fp8",), True), (("nvfp4",), False)])
def test_formats_are_covered_where_none_or_they_are_named(formats: tuple[str, ...], covered: bool) -> None:
    assert VerifyConfig(formats=formats).covers("fp8") is covered


def test_an_interval_needs_four_sequences() -> None:
    assert VerifyConfig(sequences=4).sequences == 4
    refused(VerifyConfig, {"sequences": 3}, "greater than or equal to 4")
