"""The objective of distillation: its parts and their weights, by the formulas of the config, with small heads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from conf.stages.distill import DistillConfig
from jobs.megatron import distillation
from jobs.megatron.distillation import TeacherSignal
from jobs.megatron.fused_loss import defer
from jobs.megatron.output_head import Head

pytestmark = pytest.mark.usefixtures("one_rank")

VOCABULARY, WIDTH, TOKENS = 20, 8, 12
COMMON = {"steps": 4, "seq_length": 8, "global_batch": 2, "micro_batch": 2, "lr": 1.0, "min_lr": 0, "warmup_steps": 0}
BATCH: Any = SimpleNamespace(
    labels=torch.arange(TOKENS).view(2, 6) % VOCABULARY, weights=torch.linspace(0, 0.1, TOKENS).view(2, 6)
)


def random(*sizes: int, seed: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def model(training: bool = True) -> Any:
    return SimpleNamespace(
        share_embeddings_and_output_weights=False,
        output_layer=SimpleNamespace(weight=random(VOCABULARY, WIDTH, seed=1)),
        training=training,
    )


HIDDEN = random(2, 6, WIDTH, seed=2)
TEACHER = Head(hidden=random(TOKENS, WIDTH, seed=3), weight=random(VOCABULARY, WIDTH, seed=4))


def plain() -> tuple[float, float, float]:
    """Weighted forward KL and the cross-entropies of student and teacher."""
    weights, labels = BATCH.weights.flatten().double(), BATCH.labels.flatten()
    ours = (HIDDEN.flatten(0, 1).double() @ model().output_layer.weight.double().T).log_softmax(-1)
    theirs = (TEACHER.hidden.double() @ TEACHER.weight.double().T).log_softmax(-1)
    kl = ((theirs.exp() * (theirs - ours)).sum(-1) * weights).sum()
    losses = [-(each[torch.arange(TOKENS), labels] * weights).sum() for each in (ours, theirs)]
    return float(kl), float(losses[0]), float(losses[1])


def found(
    intermediate: float | None = None, training: bool = True, teacher_loss: float | None = None, **given: Any
) -> Any:
    config = DistillConfig.model_validate(COMMON | given)
    signal = TeacherSignal(
        teacher=TEACHER,
        intermediate=None if intermediate is None else torch.tensor(intermediate),
        loss=None if teacher_loss is None else torch.tensor(teacher_loss),
    )
    got = distillation.losses(model(training), HIDDEN, BATCH, config=config, source=lambda *_: signal)
    return {name: float(value) for name, value in got.items()}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("between", [None, 0.4])
def test_fixed_shares_weigh_both_losses(share: float, between: float | None) -> None:
    kl, loss, teacher = plain()
    got = found(between, ce_share=share, intermediate_weight=3.0)
    assert got["loss"] == pytest.approx(loss, rel=1e-5) and got["teacher_loss"] == pytest.approx(teacher, rel=1e-5)
    assert got.get("divergence", kl) == pytest.approx(kl, rel=1e-5)
    expected = (1 - share) * (kl + 3 * (between or 0)) + share * loss
    assert got["objective"] == pytest.approx(expected, rel=1e-5)
    assert got.get("intermediate") == (None if between is None else pytest.approx(between))
    assert "kl" not in got


@pytest.mark.parametrize("between", [None, 0.4])
def test_balanced_teachers_count_as_much_as_the_labels(between: float | None) -> None:
    _, loss, _ = plain()
    got = found(between, ce_share="balanced", intermediate_weight=3.0)
    assert got["objective"] == pytest.approx(2 * loss, rel=1e-5), "cross-entropy, and the same of the teacher's"


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_balanced_layers_count_as_much_as_the_logits(share: float) -> None:
    kl, loss, _ = plain()
    got = found(0.4, ce_share=share, intermediate_weight="balanced")
    assert got["objective"] == pytest.approx((1 - share) * 2 * kl + share * loss, rel=1e-5)
    both = found(0.4, ce_share="balanced", intermediate_weight="balanced")
    assert both["objective"] == pytest.approx(2 * loss, rel=1e-5)
    alone = found(None, ce_share=share, intermediate_weight="balanced")
    assert alone["objective"] == pytest.approx((1 - share) * kl + share * loss, rel=1e-5)


def test_nothing_is_balanced_against_zero() -> None:
    kl, _, _ = plain()
    assert found(0.0, intermediate_weight="balanced")["objective"] == pytest.approx(kl, rel=1e-5)
    zero, one = torch.tensor(0.0), torch.tensor(2.0)
    assert distillation._ratio(one, zero).item() == 1.0
    assert distillation._ratio(one, torch.tensor(8.0)).item() == 0.25


@pytest.mark.parametrize("ranks", [1, 2])
def test_sizes_are_those_of_all_context_parallel_ranks(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that hold as many tokens each; the sum is what losses are balanced by."""
    state = distillation.parallel_state
    monkeypatch.setattr(state, "get_context_parallel_world_size", lambda: ranks)
    monkeypatch.setattr(state, "get_context_parallel_group", lambda: "context")

    def reduce(value: torch.Tensor, group: str) -> None:
        assert group == "context"
        value.mul_(ranks)

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    assert distillation._all_reduce_sum(torch.tensor(3.0)).item() == 3 * ranks


def test_kl_is_told_in_validation() -> None:
    kl, _, _ = plain()
    assert found(training=False)["kl"] == pytest.approx(kl, rel=1e-5)


def test_a_stored_loss_is_the_teachers() -> None:
    assert found(teacher_loss=1.25)["teacher_loss"] == 1.25


def test_temperature_and_top_k_reach_the_divergence() -> None:
    ours = HIDDEN.flatten(0, 1).double() @ model().output_layer.weight.double().T / 2
    theirs = TEACHER.hidden.double() @ TEACHER.weight.double().T / 2
    top = theirs.topk(5).indices
    q, p = ours.gather(1, top).log_softmax(-1), theirs.gather(1, top).log_softmax(-1)
    expected = ((q.exp() * (q - p)).sum(-1) * BATCH.weights.flatten().double()).sum() * 4
    got = found(loss="reverse_kl", temperature=2.0, scale_by_t2=True, top_k=5)
    assert got["objective"] == pytest.approx(float(expected), rel=1e-5)


def tiny(width: int, seed: int) -> Any:
    from conf.shape import Shape
    from jobs.megatron import model as megatron
    from jobs.megatron import weights

    sizes = {"num_layers": 2, "ffn_hidden_size": 24, "num_attention_heads": 2, "num_query_groups": 1}
    shape = Shape.model_validate(sizes | {"hidden_size": width, "initializer_range": 0.3})
    config = megatron.config_of_shape(shape, VOCABULARY, 0)
    built = megatron.build(config, Parallel(), "fp32", torch.device("cpu"))
    weights.initialize(built, config, seed)
    defer(built)
    return built


@pytest.mark.parametrize("kind", ["cosine", "mse"])
@pytest.mark.parametrize("width", [16, 24])
def test_layers_are_compared_by_their_outputs(kind: str, width: int) -> None:
    """The named ones, the student's through an isometry where the widths differ; the mean over pairs."""
    student, teacher = tiny(16, 1), tiny(width, 2)
    pairs = [
        {"student_layer": 1, "teacher_layer": 2, "loss": kind},
        {"student_layer": 2, "teacher_layer": 1, "loss": kind},
    ]
    outputs: dict[tuple[str, int], torch.Tensor] = {}
    for name, each in (("student", student), ("teacher", teacher)):
        for number, layer in enumerate(each.decoder.layers, 1):
            layer.register_forward_hook(
                lambda _, __, output, key=(name, number): outputs.__setitem__(key, output[0].detach())
            )
    with torch.no_grad():
        last = teacher(BATCH.labels, torch.arange(6).expand(2, 6), None)
    both = distillation.pair(student, teacher, DistillConfig.model_validate(COMMON | {"intermediate": pairs}))
    both.train()
    both(BATCH.labels, torch.arange(6).expand(2, 6), None)
    signal = distillation.running_teacher(both, BATCH)
    losses = []
    for number, (ours, theirs) in enumerate(((1, 2), (2, 1))):
        one, other = outputs["student", ours], outputs["teacher", theirs]
        if width != 16:
            weight = both.projections[number].weight
            torch.testing.assert_close(weight.T @ weight, torch.eye(16), rtol=0, atol=1e-5)
            one = one @ weight.detach().T
        cosine = 1 - torch.nn.functional.cosine_similarity(one, other, dim=-1)
        per_token = cosine if kind == "cosine" else (one - other).square().mean(-1)
        losses.append(float((per_token.T * BATCH.weights).sum()))
    assert signal.intermediate is not None
    assert float(signal.intermediate.detach()) == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert isinstance(signal.teacher, Head)
    torch.testing.assert_close(signal.teacher.hidden, last.flatten(0, 1))
    assert hasattr(both, "projections") is (width != 16)
    assert not hasattr(distillation.without_projections(both), "projections")


def test_without_pairs_only_the_logits_teach() -> None:
    both = distillation.pair(tiny(16, 1), tiny(24, 2), DistillConfig.model_validate(COMMON))
    both.train()
    both(BATCH.labels, torch.arange(6).expand(2, 6), None)
    assert distillation.running_teacher(both, BATCH).intermediate is None
