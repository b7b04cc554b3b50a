"""Tokens that quantizers saw, and ratios in dB, counted by hand."""

from __future__ import annotations

import contextlib
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.quantization import errors


@pytest.mark.parametrize(
    ("signal", "noise", "expected"), [(100, 1, 20), (1, 10, -10), (2, 1, 3.0103), (1, 0, None), (0, 1, None)]
)
def test_decibels(signal: float, noise: float, expected: float | None) -> None:
    found = errors.decibels(signal, noise)
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-4))


@pytest.mark.parametrize(
    ("heads", "shape", "samples", "tokens"),
    [(False, (2, 5, 8), 2, 10), (False, (7, 8), 0, 7), (True, (2, 3, 5, 8), 2, 10)],
)
def test_sequences_and_tokens_are_counted(heads: bool, shape: tuple[int, ...], samples: int, tokens: int) -> None:
    counts = {"samples": 1, "tokens": 1}
    errors._counter(counts, heads=heads)(torch.nn.Identity(), (torch.zeros(shape),))
    assert counts == {"samples": 1 + samples, "tokens": 1 + tokens}


def test_layers_without_a_token_are_refused() -> None:
    counts = {"a": {"samples": 1, "tokens": 3}, "b": {"samples": 0, "tokens": 0}}
    assert errors.check_counts(counts, ["a"]) == []
    with pytest.raises(ValueError, match=r"^2 of 3 quantizers saw no token in calibration, for example b; raise"):
        errors.check_counts(counts, ["a", "b", "c"])


@pytest.mark.parametrize(("smoothing", "bias"), [(None, None), (2.0, None), (None, 5.0), (2.0, 5.0)])
def test_outputs_are_compared_with_the_unrounded(smoothing: float | None, bias: float | None) -> None:
    scale = None if smoothing is None else torch.tensor([smoothing])
    layer: Any = SimpleNamespace(
        input_quantizer=SimpleNamespace(pre_quant_scale=scale), bias=None if bias is None else torch.tensor([bias])
    )
    powers = [1.0, 1.0]
    errors._comparer(torch.tensor([[3.0]]), powers)(layer, (torch.tensor([[4.0]]),), torch.tensor([[10.0]]))
    expected = 3 * 4 * (smoothing or 1) + (bias or 0)
    assert powers == [1 + expected**2, 1 + (10 - expected) ** 2]


def test_the_first_sequences_are_compared_one_by_one() -> None:
    seen: list[Any] = []
    model: Any = SimpleNamespace(device="cpu", model=lambda tokens, use_cache: seen.append(tokens.tolist()))
    tokens = torch.arange(2 * (errors.SEQUENCES + 1)).view(-1, 2)
    assert errors.measure(model, {}, {}, tokens) == {}
    assert seen == [[[2 * number, 2 * number + 1]] for number in range(errors.SEQUENCES)]
    seen.clear()
    errors.measure(model, {}, {}, tokens[:3])
    assert seen == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_weights_and_outputs_are_told_in_decibels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of 3 and 4 that became 3 and 5: a power of 25 against one of 1; outputs of 7 that became 8."""
    layer: Any = torch.nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[3.0, 5.0]])
    layer.input_quantizer = SimpleNamespace(pre_quant_scale=None)
    monkeypatch.setattr(errors.export, "weights_as_they_are", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(errors.export, "algorithm_of", lambda _: "FP8")
    model: Any = SimpleNamespace(device="cpu", model=lambda tokens, use_cache: layer(tokens))
    found = errors.measure(model, {"a": layer}, {"a": torch.tensor([[3.0, 4.0]])}, torch.ones(2, 2))
    assert found == {
        "a": {
            "format": "FP8",
            "weights_db": pytest.approx(10 * math.log10(25)),
            "outputs_db": pytest.approx(10 * math.log10(49)),
        }
    }
    assert not layer._forward_hooks
