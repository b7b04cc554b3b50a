"""Settings of a sweep: shares that leave something and cut something, each once."""

from __future__ import annotations

import pytest

from conf.stages.sweep import SweepConfig
from tests.fixtures.stages import refused


@pytest.mark.parametrize("ratios", [[1.0], [0.0], [0.5, 1.5], [0.5, 0.5]])
def test_shares_that_cut_nothing_or_all_are_refused(ratios: list[float]) -> None:
    refused(SweepConfig, {"ratios": ratios}, f"sweep.ratios is {ratios}; list distinct shares between 0 and 1")


def test_an_axis_is_swept_once() -> None:
    refused(SweepConfig, {"axes": ["hidden_size", "hidden_size"]}, "sweep.axes has duplicates: ['hidden_size', 'hi")
    assert SweepConfig(axes=("hidden_size", "num_layers")).axes == ("hidden_size", "num_layers")


def test_tenths_down_to_one_half_are_swept_unless_told() -> None:
    assert SweepConfig().ratios == (0.9, 0.8, 0.7, 0.6, 0.5)
    assert SweepConfig(ratios=(0.01, 0.99)).ratios == (0.01, 0.99)
