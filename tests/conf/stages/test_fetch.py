"""What a model from the hub takes on disk."""

from __future__ import annotations

from conf.shape import num_params
from conf.stages.fetch import FetchConfig
from tests.fixtures.stages import TEACHER, estimate


def test_a_model_of_the_hub_has_weights_of_16_bits() -> None:
    numbers = estimate(FetchConfig(model="owner/name"))
    assert (numbers.params, numbers.disk) == (num_params(TEACHER), 2 * num_params(TEACHER))
