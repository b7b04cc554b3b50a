"""Soft caps: attention whose scores are capped, against the formula in float64 and autograd, and what it holds."""

from __future__ import annotations

import pytest
import torch

from jobs.megatron import capping
from jobs.megatron.capping import Scores
from tests.fixtures.meter import Meter

HOWS = [Scores(scale=0.4, cap=cap, window=window) for cap in (0.8, 50.0) for window in (None, 1, 3, 9)]


def inputs(length: int = 7, visible: int = 9, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Queries of 4 heads, keys and values of 2, in 2 sequences."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((length, 2, 4, 6), (visible, 2, 2, 6), (visible, 2, 2, 6))
    return tuple(
        (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for shape in shapes
    )


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """The formula on whole scores."""
    keys, values = (tensor.repeat_interleave(query.shape[2] // key.shape[2], dim=2) for tensor in (key, value))
    scores = how.cap * torch.tanh(how.scale * torch.einsum("qbhw,kbhw->bhqk", query, keys) / how.cap)
    length, visible = len(query), len(key)
    distance = torch.arange(visible - length, visible)[:, None] - torch.arange(visible)
    hidden = (distance < 0) | (distance >= (how.window or visible))
    return torch.einsum("bhqk,kbhw->qbhw", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)


@pytest.mark.parametrize("elements", [1, 2 * 4 * 9, 2 * 4 * 9 * 3, 2**20])
@pytest.mark.parametrize("how", HOWS, ids=str)
def test_attention_and_its_gradients_are_autograds(how: Scores, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunks: one query, one, three, or all at once."""
    monkeypatch.setattr(capping, "CHUNK_ELEMENTS", {"cpu": elements})
    ours, theirs = inputs(), inputs()
    got, expected = capping.attention(*ours, how), plain(*theirs, how)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got.backward(upstream)
    expected.backward(upstream)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-11, atol=1e-12)


def test_gradients_are_finite_differences() -> None:
    for how in HOWS[1:3]:
        assert torch.autograd.gradcheck(lambda *given: capping.attention(*given, how), inputs())  # noqa: B023


def test_narrow_inputs_are_computed_wide() -> None:
    """bf16, as on a GPU: its scores are capped and summed in fp32, and its gradients are bf16 again."""
    ours, theirs = inputs(dtype=torch.bfloat16), inputs()
    got = capping.attention(*ours, HOWS[0])
    got.sum().backward()
    plain(*theirs, HOWS[0]).sum().backward()
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.double(), plain(*theirs, HOWS[0]), rtol=0.02, atol=0.02)
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None and other.grad is not None and one.grad.dtype is torch.bfloat16
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0.05, atol=0.05)


def test_large_scores_do_not_overflow() -> None:
    query, key, value = (1e4 * each.detach() for each in inputs())
    got = capping.attention(query, key, value, Scores(scale=1.0, cap=500.0, window=None))
    torch.testing.assert_close(got, plain(query, key, value, Scores(scale=1.0, cap=500.0, window=None)))


@pytest.mark.parametrize(("window", "keys"), [(None, 4096), (64, 64 + 64 - 1)])
def test_chunks_hold_what_their_queries_can_see(window: int | None, keys: int) -> None:
    """64 queries of 4 heads and 4,096 keys are the 2**20 scores that are held at once."""
    query, key = torch.empty(1, 2, 2, 4096, 1), torch.empty(1, 2, 4096, 1)
    chunks = list(capping._chunks(query, key, window))
    assert [chunk.queries for chunk in chunks] == [slice(start, start + 64) for start in range(0, 4096, 64)]
    assert chunks[-1].keys == slice(4096 - keys, 4096)
    assert chunks[-1].hidden.shape == (64, keys)
    assert capping.CHUNK_ELEMENTS["cuda"] == 2**25


def test_memory_does_not_grow_with_the_square_of_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capping, "CHUNK_ELEMENTS", {"cpu": 2**14})
    peaks = []
    for length in (256, 512):
        with Meter() as meter:
            given = inputs(length, length, torch.float32)
            capping.attention(*given, HOWS[0]).sum().backward()
            peaks.append(meter.peak)
    assert peaks[1] < 2.2 * peaks[0]


@pytest.mark.parametrize("cap", [1.5, 30.0])
def test_logits_are_capped_with_their_slope(cap: float) -> None:
    logits = torch.linspace(-100, 100, 41, dtype=torch.float64).requires_grad_()
    expected = cap * torch.tanh(logits / cap)
    expected.sum().backward()
    torch.testing.assert_close(capping.slope(logits.detach(), cap), logits.grad)
    assert capping.slope(logits.detach().bfloat16(), cap).dtype is torch.float32
    given = logits.detach().clone()
    assert capping.cap_(given, cap) is given
    torch.testing.assert_close(given, expected.detach())
