"""The fused head against plain float64 formulas of the whole logits: losses, gradients of hidden states and output
weights, finite differences, and with the vocabulary over two ranks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from conf.parallel import Parallel
from jobs.megatron import fused_loss as head
from jobs.megatron.device import machine
from jobs.megatron.divergence import Divergence
from jobs.megatron.fused_loss import Head, Losses, LossWeights

pytestmark = pytest.mark.slow
TOKENS, VOCABULARY = 24, 60
KINDS = ("forward_kl", "reverse_kl", "jensen_shannon")
SUPPORTS = ({}, {"top_k": 7}, {"top_k": 7, "rest": True}, {"top_k": 50}, {"top_k": 1, "rest": True})
SOFTNESS = ({}, {"temperature": 2.5}, {"temperature": 0.7, "scaled": True})
HOWS = [
    Divergence(kind=kind, **support, **soft) for kind, support, soft in itertools.product(KINDS, SUPPORTS, SOFTNESS)
]
MIXES = {"taught": LossWeights(divergence=1, cross_entropy=0), "mixed": LossWeights(divergence=0.7, cross_entropy=0.3)}


def heads(seed: int = 1) -> tuple[Head, Head, torch.Tensor, torch.Tensor]:
    """Student and teacher of widths 16 and 20, labels, and weights of which some are 0."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        Head(
            hidden=torch.randn(TOKENS, width, generator=generator),
            weight=torch.randn(VOCABULARY, width, generator=generator) / 2,
        )
        for width in (16, 20)
    )
    labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    weights = torch.rand(TOKENS, generator=generator) / TOKENS
    weights[::5] = 0
    return student, teacher, labels, weights


def plain(
    student: Head, teacher: Head, labels: torch.Tensor, weights: torch.Tensor, how: Divergence, mix: LossWeights
) -> tuple[Losses, torch.Tensor, torch.Tensor]:
    """The textbook formulas in float64 over whole logits: losses, and by autograd the gradients of hidden states and
    output weights."""
    hidden, rows = student.hidden.double().requires_grad_(), student.weight.double().requires_grad_()
    ours, theirs = hidden @ rows.T, teacher.hidden.double() @ teacher.weight.double().T
    weights = weights.double()

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()

    values = {
        "divergence": (formula(ours, theirs, how) * weights).sum(),
        "kl": (formula(ours, theirs, Divergence()) * weights).sum(),
        "loss": entropy(ours),
        "teacher_loss": entropy(theirs),
    }
    values["objective"] = mix.divergence * values["divergence"] + mix.cross_entropy * values["loss"]
    values["objective"].backward()
    assert hidden.grad is not None and rows.grad is not None
    return {name: value.detach() for name, value in values.items()}, hidden.grad, rows.grad


def close(got: torch.Tensor, expected: torch.Tensor, how: Divergence) -> bool:
    """fp32 against float64, relative to the largest value. Log-ratios of about 20 multiplied by q round to 2e-6 of it,
    and where a bucket holds nearly all of the probability, its complement to 2e-5."""
    tolerance = 2e-5 if how.rest else 1e-6 if how.kind == "forward_kl" else 6e-6
    return bool((got.double() - expected).abs().max() <= tolerance * float(expected.abs().max()))


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


@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
@pytest.mark.parametrize("how", HOWS, ids=str)
def test_losses_and_gradients_are_the_formula_s(how: Divergence, mix: LossWeights) -> None:
    student, teacher, labels, weights = heads()
    expected, d_hidden, d_rows = plain(student, teacher, labels, weights, how, mix)
    student.hidden.requires_grad_()
    student.weight.requires_grad_()
    got = head.losses(student, labels, weights, mix, teacher=teacher, divergence=how, with_kl=True)
    got["objective"].backward()
    assert set(got) == set(expected)
    for name, value in got.items():
        assert close(value, expected[name], how), name
    assert student.hidden.grad is not None and student.weight.grad is not None
    assert close(student.hidden.grad, d_hidden, how)
    assert close(student.weight.grad, d_rows, how)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_gradients_are_finite_differences(how: Divergence) -> None:
    student, teacher, labels, weights = heads(2)
    student.hidden.requires_grad_()
    head.losses(student, labels, weights, MIXES["taught"], teacher=teacher, divergence=how)["objective"].backward()
    assert student.hidden.grad is not None
    direction = torch.randn(student.hidden.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    step, rows = 1e-5, student.weight.double().T
    whole, theirs = student.hidden.detach().double(), teacher.hidden.double() @ teacher.weight.double().T
    ahead, behind = (
        (formula((whole + sign * step * direction) @ rows, theirs, how) * weights).sum() for sign in (1, -1)
    )
    assert float((student.hidden.grad.double() * direction).sum()) == pytest.approx(
        float((ahead - behind) / (2 * step)), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_groups_and_chunks_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, labels, weights = heads()
    how = Divergence(kind=kind, top_k=7)  # type: ignore[arg-type]
    student.weight.requires_grad_()
    gradients, values = [], []
    for group, chunk in ((2**20, 2**20), (10 * VOCABULARY, 3 * VOCABULARY), (1, 1)):
        monkeypatch.setattr(head, "GROUP_ELEMENTS", group)
        monkeypatch.setattr(head, "CHUNK_ELEMENTS", {"cpu": chunk})
        student.weight.grad = None
        values.append(
            head.losses(student, labels, weights, MIXES["mixed"], teacher=teacher, divergence=how)["objective"]
        )
        values[-1].backward()
        gradients.append(student.weight.grad)
    for other in (1, 2):
        torch.testing.assert_close(values[other], values[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(gradients[other], gradients[0], rtol=0, atol=1e-6)


def test_equal_heads_diverge_by_nothing_and_teach_nothing() -> None:
    _, teacher, labels, weights = heads()
    student = Head(hidden=teacher.hidden.clone().requires_grad_(), weight=teacher.weight)
    for how in HOWS:
        student.hidden.grad = None
        value = head.losses(student, labels, weights, MIXES["taught"], teacher=teacher, divergence=how)["objective"]
        value.backward()
        assert abs(value.item()) < 1e-6
        assert student.hidden.grad is not None and float(student.hidden.grad.abs().max()) < 1e-6


def test_two_ranks_give_the_losses_of_one() -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.fixtures.tensor_parallel_losses",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
