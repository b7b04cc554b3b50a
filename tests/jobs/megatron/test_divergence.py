"""Divergences of one rank against plain float64 formulas, and their gradients against autograd."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from megatron.core import parallel_state

from jobs.megatron.divergence import (
    Divergence,
    TopKLogits,
    at,
    compare_logits,
    covers_vocabulary,
    minus_one_hot,
    top_k_logits,
    z_loss,
)

TEACHER = torch.tensor([[2.0, -1.0, 0.5, 1.5, 0.0], [0.1, 0.3, -2.0, 1.0, 3.0]])
STUDENT = torch.tensor([[0.0, 1.0, -0.5, 2.0, 0.3], [1.0, -1.0, 0.2, 0.4, 2.5]])
KINDS = ["forward_kl", "reverse_kl", "jensen_shannon"]


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_state, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(parallel_state, "get_tensor_model_parallel_group", lambda: None)


def expected(kind: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The textbook divergence of two distributions [tokens, n]."""
    if kind == "forward_kl":
        return (p * (p / q).log()).sum(-1)
    if kind == "reverse_kl":
        return (q * (q / p).log()).sum(-1)
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2


def check(divergence: Divergence, stored: TopKLogits | None = None) -> None:
    """Value and gradient of `compare_logits` are those of the formula on probabilities."""
    scaled = (STUDENT.double() / divergence.temperature).requires_grad_()
    theirs = TEACHER.double() / divergence.temperature
    if divergence.top_k is None or divergence.top_k >= 5:
        p, q = theirs.softmax(-1), scaled.softmax(-1)
    elif divergence.rest:
        chosen = theirs.topk(divergence.top_k).indices
        p, q = theirs.softmax(-1).gather(1, chosen), scaled.softmax(-1).gather(1, chosen)
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
    else:
        chosen = theirs.topk(divergence.top_k).indices
        p, q = theirs.gather(1, chosen).softmax(-1), scaled.gather(1, chosen).softmax(-1)
    right = expected(divergence.kind, p, q)
    (slope,) = torch.autograd.grad(right.sum(), scaled)
    teacher = None if stored is not None else TEACHER.clone()
    value, gradient = compare_logits(STUDENT.clone(), teacher, stored, divergence)
    torch.testing.assert_close(value.double(), right.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), slope, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", [{}, {"top_k": 2}, {"top_k": 3, "rest": True}, {"top_k": 5}])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_formula_and_autograd(kind: Any, support: dict[str, Any], temperature: float) -> None:
    check(Divergence(kind=kind, temperature=temperature, **support))


@pytest.mark.parametrize("kind", KINDS)
def test_stored_top_k(kind: Any) -> None:
    """Stored logits are known up to a constant per token and are divided by the temperature."""
    top = TEACHER.topk(2)
    stored = TopKLogits(
        indices=top.indices,
        inside=torch.ones(2, 2, dtype=torch.bool),
        logits=top.values - torch.tensor([[3.0], [-1.0]]),
    )
    check(Divergence(kind=kind, temperature=2.0, top_k=2), stored)


def test_stored_rest_bucket() -> None:
    top, p = TEACHER.topk(2), TEACHER.softmax(-1)
    rest = (1 - p.gather(1, top.indices).sum(-1, keepdim=True)).log()
    inside = torch.ones(2, 2, dtype=torch.bool)
    stored = TopKLogits(indices=top.indices, inside=inside, logits=top.values + 4, rest=rest)
    check(Divergence(top_k=2, rest=True), stored)


def test_all_tokens_leave_no_rest() -> None:
    """Stored or not; what is stored of the rest is then a number that is all but zero."""
    everything = top_k_logits(TEACHER.clone(), 5, rest=True)
    assert everything.rest is not None and everything.rest.exp().flatten().tolist() == [0, 0]
    stored = dataclasses.replace(everything, logits=everything.logits / 2, rest=torch.full((2, 1), 1e-30).log())
    for rest in (False, True):
        how = Divergence(top_k=5, rest=rest)
        value, gradient = compare_logits(STUDENT.clone(), None, stored, how)
        found, slope = compare_logits(STUDENT.clone(), TEACHER / 2, None, how)
        torch.testing.assert_close(value, found)
        torch.testing.assert_close(gradient, slope)


def test_equal_logits_differ_by_nothing() -> None:
    value, gradient = compare_logits(TEACHER.clone(), TEACHER.clone(), None, Divergence(kind="jensen_shannon"))
    assert value.abs().max() < 1e-6 and gradient.abs().max() < 1e-6


def test_teachers_largest_logits_and_rest() -> None:
    top = top_k_logits(TEACHER.clone(), 2, rest=True)
    assert top.indices.tolist() == [[0, 3], [4, 3]]
    assert top.rest is not None
    left = TEACHER.softmax(-1)[[0, 0, 0, 1, 1, 1], [1, 2, 4, 0, 1, 2]].reshape(2, 3).sum(-1, keepdim=True)
    torch.testing.assert_close(top.rest.exp(), left)
    assert top_k_logits(TEACHER.clone(), 2, rest=False).rest is None


@pytest.mark.parametrize(("top_k", "whole"), [(None, True), (4, False), (5, True), (6, True)])
def test_top_k_of_all_covers_vocabulary(top_k: int | None, whole: bool) -> None:
    assert covers_vocabulary(Divergence(top_k=top_k), TEACHER) is whole


def test_scale_is_squared_temperature() -> None:
    assert Divergence(temperature=3.0, scaled=True).scale == 9.0
    assert Divergence(temperature=3.0).scale == 1.0


OURS, THEIRS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", [{}, {"top_k": 2}, {"top_k": 4}, {"top_k": 2, "rest": True}, {"top_k": 6}])
def test_slices_of_a_vocabulary_are_one(
    kind: Any, support: dict[str, Any], monkeypatch: pytest.MonkeyPatch, sliced: Any
) -> None:
    """Whichever rank holds the teacher's largest logits; slices of three, so that four are more than a rank has."""
    how = Divergence(kind=kind, temperature=1.5, **support)
    halves = [slice(0, 3), slice(3, 6)]
    found = sliced(
        lambda rank: compare_logits(OURS[:, halves[rank]].clone(), THEIRS[:, halves[rank]].clone(), None, how)
    )
    monkeypatch.setattr(parallel_state, "get_tensor_model_parallel_world_size", lambda: 1)
    value, gradient = compare_logits(OURS.clone(), THEIRS.clone(), None, how)
    for own_value, _ in found:
        torch.testing.assert_close(own_value, value)
    torch.testing.assert_close(torch.cat([slope for _, slope in found], -1), gradient)


def test_the_z_loss_is_the_square_of_the_logarithm(sliced: Any) -> None:
    logits = OURS.double().requires_grad_()
    expected = logits.logsumexp(-1).square()
    expected.sum().backward()
    found = sliced(lambda rank: z_loss(logits.detach()[:, 3 * rank : 3 * rank + 3].clone()))
    for value, _ in found:
        torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(torch.cat([slope for _, slope in found], -1), logits.grad)


def test_a_label_is_in_one_slice(sliced: Any) -> None:
    """The first and the last of each rank's three tokens too."""
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 3])
    whole = OURS[torch.arange(7), labels]
    found = sliced(lambda rank: at(OURS[:, 3 * rank : 3 * rank + 3], labels))
    assert all(torch.equal(each, whole) for each in found)
    found = sliced(lambda rank: minus_one_hot(OURS[:, 3 * rank : 3 * rank + 3].clone(), labels))
    assert torch.equal(torch.cat(found, -1), OURS - torch.nn.functional.one_hot(labels, 6))
