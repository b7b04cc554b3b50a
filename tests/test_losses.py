"""Every divergence of the distillation against a plain float64 formula: values, gradients, finite differences, and over two ranks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from conf.parallel import Parallel
from jobs.megatron.host import machine
from jobs.megatron.losses import Divergence, divergence

pytestmark = pytest.mark.slow
TOKENS, VOCABULARY = 24, 60
KINDS = ("forward_kl", "reverse_kl", "jensen_shannon")
SUPPORTS = ({}, {"top_k": 7}, {"top_k": 7, "rest": True}, {"top_k": 50}, {"top_k": 1, "rest": True})
SOFTNESS = ({}, {"temperature": 2.5}, {"temperature": 0.7, "scaled": True})
HOWS = [Divergence(kind=kind, **support, **soft) for kind, support, soft in itertools.product(KINDS, SUPPORTS, SOFTNESS)]


def logits(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Student and teacher logits, fp32 [tokens, vocabulary]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, VOCABULARY, generator=generator) * 2, torch.randn(TOKENS, VOCABULARY, generator=generator) * 2


def plain(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> tuple[torch.Tensor, torch.Tensor]:
    """The textbook formula in float64, and its gradient by autograd."""
    s = student.double().clone().requires_grad_()
    values = formula(s, teacher.double(), how)
    values.sum().backward()
    assert s.grad is not None
    return values.detach(), s.grad


def close(got: torch.Tensor, expected: torch.Tensor, how: Divergence) -> bool:
    """fp32 against float64, relative to the largest value. Where a log-ratio of about 20 is multiplied by q its own rounding is 2e-6."""
    tolerance = 1e-6 if how.kind == "forward_kl" else 3e-6
    return bool((got.double() - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max())))


def formula(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> torch.Tensor:
    s, t = student / how.temperature, teacher / how.temperature
    if how.top_k is None:
        q, p = s.softmax(-1), t.softmax(-1)
    else:
        top = t.topk(how.top_k).indices
        if how.rest:
            q, p = s.softmax(-1).gather(1, top), t.softmax(-1).gather(1, top)
            q, p = (torch.cat([part, 1 - part.sum(-1, keepdim=True)], dim=-1) for part in (q, p))
        else:
            q, p = s.gather(1, top).softmax(-1), t.gather(1, top).softmax(-1)
    m = (p + q) / 2
    value = {
        "forward_kl": lambda: p * (p.log() - q.log()),
        "reverse_kl": lambda: q * (q.log() - p.log()),
        "jensen_shannon": lambda: (p * (p.log() - m.log()) + q * (q.log() - m.log())) / 2,
    }[how.kind]().sum(-1)
    return value * (how.temperature**2 if how.scaled else 1.0)


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    with machine(Parallel(), 1):
        yield


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_values_and_gradients_are_the_formula_s(how: Divergence) -> None:
    student, teacher = logits()
    expected, slope = plain(student, teacher, how)
    student.requires_grad_()
    values = divergence(student, teacher, how)
    values.sum().backward()
    assert close(values, expected, how)
    assert student.grad is not None
    assert close(student.grad, slope, how)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_gradients_are_finite_differences(how: Divergence) -> None:
    student, teacher = logits(2)
    student.requires_grad_()
    divergence(student, teacher, how).sum().backward()
    assert student.grad is not None
    direction = torch.randn(student.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    step = 1e-5
    whole, other = student.detach().double(), teacher.double()
    ahead, behind = (formula(whole + sign * step * direction, other, how).sum() for sign in (1, -1))
    assert float((student.grad.double() * direction).sum()) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_logits_diverge_by_nothing_and_chunks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = logits()
    how = Divergence(kind=kind, top_k=7)  # type: ignore[arg-type]
    assert divergence(teacher, teacher, how).abs().max() < 1e-6
    whole = divergence(student, teacher, how)
    monkeypatch.setattr("jobs.megatron.losses.CHUNK_ELEMENTS", 5 * VOCABULARY)
    torch.testing.assert_close(divergence(student, teacher, how), whole, rtol=0, atol=1e-6)


def test_half_of_the_vocabulary_on_each_of_two_ranks_gives_the_same() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.tensor_parallel_losses"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
