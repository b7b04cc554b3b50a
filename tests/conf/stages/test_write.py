"""Documents that a teacher writes: how long they may be, and what writing them takes."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate.memory import CUDA_CONTEXT
from conf.shape import num_params
from conf.stages.write import WriteConfig
from tests.fixtures.stages import TEACHER, estimate


def write(**settings: Any) -> WriteConfig:
    return WriteConfig.model_validate({"documents": 9} | settings)


def test_documents_are_drawn_from_the_whole_distribution_unless_told() -> None:
    assert (write().top_p, write().temperature) == (1, 1)


def test_a_document_counts_with_the_token_before_it() -> None:
    assert write(prompt_tokens=5, max_new_tokens=10).length == 16
    write(prompt_tokens=5, max_new_tokens=10).check_longest(16)
    with pytest.raises(ValueError, match=r"make documents of 16 tokens .* longest sequence is 15; lower one"):
        write(prompt_tokens=5, max_new_tokens=10).check_longest(15)


@pytest.mark.parametrize(
    ("settings", "longest", "most"),
    [
        ({}, 1000, 512),
        ({}, 513, 512),
        ({}, 512, 511),
        ({"prompt_tokens": 5}, 256, 250),
        ({"prompt_tokens": 254}, 256, 1),
        ({"prompt_tokens": 255}, 256, 512),  # nothing fits, which is refused elsewhere
        ({"max_new_tokens": 512}, 256, 512),  # what is stated stays
    ],
)
def test_documents_fit_the_teacher_unless_told(settings: dict[str, Any], longest: int, most: int) -> None:
    assert write(**settings).within(longest).max_new_tokens == most


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_writing_holds_the_teacher_and_what_it_wrote(precision: str, width: int) -> None:
    numbers = estimate(write(batch=3, prompt_tokens=5, max_new_tokens=10, precision=precision))
    assert numbers.params == num_params(TEACHER) and numbers.job
    peak = numbers.job.peak("cuda")
    assert (peak.weights, peak.other) == (width * num_params(TEACHER), CUDA_CONTEXT)
    assert peak.activations == width * 2 * 4 * 2 * 8 * 3 * 16, "keys and values, layers, groups, width, batch, length"
