"""The fused head against plain float64 formulas of the whole logits: losses, gradients of hidden states and output
weights, finite differences, and with the vocabulary over two ranks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from megatron.core import parallel_state

from jobs.megatron import fused_loss as head
from jobs.megatron.divergence import Divergence, TopKLogits
from jobs.megatron.fused_loss import Losses, LossWeights
from jobs.megatron.output_head import Head

pytestmark = pytest.mark.usefixtures("one_rank")

TOKENS, VOCABULARY = 24, 60
KINDS = ("forward_kl", "reverse_kl", "jensen_shannon")
SUPPORTS = ({}, {"top_k": 7}, {"top_k": 7, "rest": True}, {"top_k": 50}, {"top_k": 1, "rest": True})
SOFTNESS = ({}, {"temperature": 2.5}, {"temperature": 0.7, "scaled": True})
HOWS = [
    Divergence(kind=kind, **support, **soft) for kind, support, soft in itertools.product(KINDS, SUPPORTS, SOFTNESS)
]
MIXES = {
    "taught": LossWeights(divergence=1, cross_entropy=0),
    "mixed": LossWeights(divergence=0.7, cross_entropy=0.3),
    "steadied": LossWeights(divergence=0.7, cross_entropy=0.3, z=0.01),
}


CAPS = (3.0, 4.5)
"""Of student and teacher, whose logits have a standard deviation of 2."""


def heads(
    seed: int = 1, caps: tuple[float | None, float | None] = (None, None)
) -> tuple[Head, Head, torch.Tensor, torch.Tensor]:
    """Student and teacher of widths 16 and 20, labels, and weights of which some are 0."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        Head(
            hidden=torch.randn(TOKENS, width, generator=generator),
            weight=torch.randn(VOCABULARY, width, generator=generator) / 2,
            cap=cap,
        )
        for width, cap in zip((16, 20), caps, strict=True)
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
    ours = ours if student.cap is None else torch.tanh(ours / student.cap) * student.cap
    theirs = theirs if teacher.cap is None else torch.tanh(theirs / teacher.cap) * teacher.cap
    weights = weights.double()

    def entropy(logits: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()

    values = {
        "divergence": (formula(ours, theirs, how) * weights).sum(),
        "kl": (formula(ours, theirs, Divergence()) * weights).sum(),
        "loss": entropy(ours),
        "teacher_loss": entropy(theirs),
    }
    if mix.z:
        values["z_loss"] = (ours.exp().sum(1).log() ** 2 * weights).sum()
    values["objective"] = mix.divergence * values["divergence"] + mix.cross_entropy * values["loss"]
    values["objective"] = values["objective"] + mix.z * values.get("z_loss", 0)
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


@pytest.mark.parametrize("mix", MIXES.values(), ids=list(MIXES))
@pytest.mark.parametrize("how", HOWS, ids=str)
def test_losses_and_gradients_are_the_formula_s(
    how: Divergence, mix: LossWeights, caps: tuple[float | None, float | None] = (None, None)
) -> None:
    student, teacher, labels, weights = heads(caps=caps)
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


@pytest.mark.parametrize("caps", [CAPS, (None, CAPS[1]), (CAPS[0], None)])
@pytest.mark.parametrize("how", HOWS[:: len(SOFTNESS) - 1], ids=str)
def test_losses_of_capped_logits_are_the_formula_s(
    how: Divergence, caps: tuple[float | None, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In chunks of several groups, whose logits are capped again for the gradient."""
    monkeypatch.setattr(head, "GROUP_ELEMENTS", 10 * VOCABULARY)
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", {"cpu": 3 * VOCABULARY})
    test_losses_and_gradients_are_the_formula_s(how, MIXES["steadied"], caps)


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


def test_labels_alone_teach_without_a_teacher() -> None:
    student, teacher, labels, weights = heads()
    got = head.losses(student, labels, weights, LossWeights(divergence=0, cross_entropy=0.5))
    assert set(got) == {"objective", "loss"}
    plain_loss = torch.nn.functional.cross_entropy(student.hidden @ student.weight.T, labels, reduction="none")
    assert float(got["loss"]) == pytest.approx(float((plain_loss * weights).sum()))
    assert float(got["objective"]) == pytest.approx(0.5 * float(got["loss"]))
    got = head.losses(student, labels, weights, LossWeights(divergence=0, cross_entropy=1), teacher=teacher)
    assert set(got) == {"objective", "loss", "teacher_loss"}, "a divergence that counts for nothing is left out"


def test_z_loss_steadies_the_logits_without_a_teacher() -> None:
    student, _, labels, weights = heads()
    student.hidden.requires_grad_()
    got = head.losses(student, labels, weights, LossWeights(divergence=0, cross_entropy=1, z=0.5))
    got["objective"].backward()
    hidden = student.hidden.detach().double().requires_grad_()
    logits = hidden @ student.weight.double().T
    entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    ((entropy + 0.5 * torch.logsumexp(logits, 1) ** 2) * weights).sum().backward()
    assert set(got) == {"objective", "loss", "z_loss"}
    assert student.hidden.grad is not None and hidden.grad is not None
    assert close(student.hidden.grad, hidden.grad, Divergence())


@pytest.mark.parametrize("upstream", [1.0, 3.0])
def test_the_gradient_is_scaled_by_the_one_above(upstream: float) -> None:
    student, teacher, labels, weights = heads()
    _, d_hidden, d_rows = plain(student, teacher, labels, weights, Divergence(), MIXES["mixed"])
    student.hidden.requires_grad_()
    student.weight.requires_grad_()
    (head.losses(student, labels, weights, MIXES["mixed"], teacher=teacher)["objective"] * upstream).backward()
    assert student.hidden.grad is not None and student.weight.grad is not None
    assert close(student.hidden.grad, d_hidden * upstream, Divergence())
    assert close(student.weight.grad, d_rows * upstream, Divergence())


@pytest.mark.parametrize("with_kl", [False, True])
def test_kl_is_told_only_where_asked(with_kl: bool) -> None:
    student, teacher, labels, weights = heads()
    for how in (Divergence(), Divergence(top_k=7), Divergence(temperature=2.0)):
        got = head.losses(student, labels, weights, MIXES["taught"], teacher=teacher, divergence=how, with_kl=with_kl)
        assert ("kl" in got) is with_kl


def test_stored_logits_teach_as_their_teacher() -> None:
    """The likeliest 7 of its tokens, up to a constant, with the rest of its probability."""
    student, teacher, labels, weights = heads()
    theirs = teacher.hidden @ teacher.weight.T
    top = theirs.topk(7)
    rest = (1 - theirs.softmax(-1).gather(1, top.indices).sum(-1, keepdim=True)).log()

    def stored(tokens: slice) -> TopKLogits:
        inside = torch.ones_like(top.indices, dtype=torch.bool)
        return TopKLogits(
            indices=top.indices[tokens], inside=inside[tokens], logits=top.values[tokens] - 3, rest=rest[tokens]
        )

    how = Divergence(top_k=7, rest=True)
    expected, *_ = plain(student, teacher, labels, weights, how, MIXES["mixed"])
    got = head.losses(student, labels, weights, MIXES["mixed"], teacher=stored, divergence=how)
    assert set(got) == {"objective", "loss", "divergence"}
    for name, value in got.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-4), name


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("chunk", [1, 5 * VOCABULARY, 2**20])
def test_stored_targets_are_the_likeliest(chunk: int, cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    _, teacher, labels, _ = heads(caps=(None, cap))
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", {"cpu": chunk})
    monkeypatch.setattr(head, "GROUP_TOKENS", 7)
    ids, values, rest, loss = head.top_k_targets(teacher, labels, 5)
    logits = teacher.hidden @ teacher.weight.T
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    top = logits.topk(5)
    assert torch.equal(ids, top.indices)
    torch.testing.assert_close(values.float(), top.values - top.values[:, :1], rtol=1e-3, atol=1e-3)
    others = 1 - logits.double().softmax(-1).gather(1, top.indices).sum(-1)
    torch.testing.assert_close(rest.double(), others, rtol=1e-4, atol=1e-7)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(loss.float(), expected, rtol=1e-3, atol=1e-3)
    assert [each.dtype for each in (values, rest, loss)] == [torch.float16, torch.float32, torch.float16]


@pytest.mark.parametrize("count", [5, 40])
def test_stored_targets_of_two_slices_are_those_of_one(
    count: int, sliced: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both ranks; forty tokens are more than either holds."""
    _, teacher, labels, _ = heads()
    with monkeypatch.context() as patch:
        patch.setattr(parallel_state, "get_tensor_model_parallel_world_size", lambda: 1)
        patch.setattr(parallel_state, "get_tensor_model_parallel_rank", lambda: 0)
        expected = head.top_k_targets(teacher, labels, count)
    halves = [replace(teacher, weight=half) for half in teacher.weight.chunk(2)]
    for found in sliced(lambda rank: head.top_k_targets(halves[rank], labels, count)):
        assert torch.equal(found[0], expected[0])
        for one, other in zip(found[1:], expected[1:], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_bf16_hidden_states_sum_their_weights_in_fp32() -> None:
    student, teacher, labels, weights = heads()
    student = Head(hidden=student.hidden.bfloat16(), weight=student.weight.bfloat16().requires_grad_())
    plain_student = Head(hidden=student.hidden.float(), weight=student.weight.detach().float())
    _, _, d_rows = plain(plain_student, teacher, labels, weights, Divergence(), MIXES["taught"])
    head.losses(student, labels, weights, MIXES["taught"], teacher=teacher)["objective"].backward()
    assert student.weight.grad is not None
    torch.testing.assert_close(student.weight.grad.double(), d_rows, rtol=0.1, atol=0.02 * float(d_rows.abs().max()))


def test_groups_hold_at_most_what_fits() -> None:
    assert [head._group_size(torch.empty(rows, 1, device="meta")) for rows in (1, 2**16, 2**17, 2**30)] == [
        1024,
        1024,
        512,
        1,
    ]


@pytest.mark.slow
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
