"""The losses of fine-tuning: means over learned tokens by plain formulas, with small heads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.stages.sft import SftConfig
from jobs import sft
from jobs.megatron.batches import Batch
from jobs.megatron.distillation import TeacherSignal
from jobs.megatron.divergence import TopKLogits
from jobs.megatron.output_head import Head

pytestmark = pytest.mark.usefixtures("one_rank")
VOCABULARY, WIDTH, TOKENS = 20, 8, 12
COMMON = {"steps": 6, "seq_length": 8, "global_batch": 4, "micro_batch": 2, "lr": 1.0, "min_lr": 0, "warmup_steps": 0}


def random(*sizes: int, seed: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


HIDDEN = random(2, 6, WIDTH, seed=2)
TEACHER = Head(hidden=random(TOKENS, WIDTH, seed=3), weight=random(VOCABULARY, WIDTH, seed=4))
ROWS = torch.arange(TOKENS).view(2, 6)
WEIGHTS = torch.tensor([[0, 0.1, 0, 0.2, 0.05, 0], [0, 0, 0.3, 0, 0, 0.15]])


def batch(weights: torch.Tensor = WEIGHTS) -> Batch:
    return Batch(addresses=ROWS + 100, tokens=ROWS, labels=(3 * ROWS + 1) % VOCABULARY, weights=weights, positions=ROWS)


def found(given: Batch, training: bool = True, teacher: bool = True, **settings: Any) -> Any:
    """Losses by name, and what the source of the teacher's part was asked."""
    config, asked = SftConfig.model_validate(COMMON | settings), list[Batch]()
    model: Any = SimpleNamespace(
        share_embeddings_and_output_weights=False,
        output_layer=SimpleNamespace(weight=random(VOCABULARY, WIDTH, seed=1)),
        training=training,
    )

    def source(_: Any, of: Batch) -> TeacherSignal:
        asked.append(of)
        part = Head(hidden=TEACHER.hidden[of.tokens.flatten()], weight=TEACHER.weight)
        if not config.offline:
            return TeacherSignal(teacher=part)
        values, ids = (part.hidden @ part.weight.T).topk(config.top_k or 0)
        inside = torch.ones_like(ids, dtype=torch.bool)
        stored = lambda of: TopKLogits(indices=ids[of], inside=inside[of], logits=values[of])  # noqa: E731
        return TeacherSignal(teacher=stored, loss=torch.tensor(7.0))

    got = sft.losses(model, HIDDEN, given, config=config, source=source if teacher else None)
    return {name: float(value) for name, value in got.items()}, asked


def plain() -> tuple[float, float, float]:
    """Weighted cross-entropy, forward KL and squared log of the sum of exponentials."""
    weights, labels = WEIGHTS.flatten().double(), batch().labels.flatten()
    logits = HIDDEN.flatten(0, 1).double() @ random(VOCABULARY, WIDTH, seed=1).double().T
    ours = logits.log_softmax(-1)
    theirs = (TEACHER.hidden.double() @ TEACHER.weight.double().T).log_softmax(-1)
    loss = -(ours[torch.arange(TOKENS), labels] * weights).sum()
    kl = ((theirs.exp() * (theirs - ours)).sum(-1) * weights).sum()
    return float(loss), float(kl), float((logits.logsumexp(-1).square() * weights).sum())


@pytest.mark.parametrize("training", [True, False])
def test_the_teacher_is_added_to_the_labels(training: bool) -> None:
    loss, kl, _ = plain()
    got, asked = found(batch(), training, kd_weight=0.5)
    assert got["objective"] == pytest.approx(loss + 0.5 * kl, rel=1e-5)
    assert (got["loss"], got["divergence"]) == (pytest.approx(loss, rel=1e-5), pytest.approx(kl, rel=1e-5))
    assert ("kl" in got) is not training and got.get("kl", kl) == pytest.approx(kl, rel=1e-5)
    assert asked[0].tokens.shape == (2, 6), "a running teacher sees whole rows"


def test_labels_alone_teach_without_a_teacher() -> None:
    loss, _, z = plain()
    got, _ = found(batch(), teacher=False, kd_weight=0.0, z_loss=0.01)
    assert got["loss"] == pytest.approx(loss, rel=1e-5)
    assert got["objective"] == pytest.approx(loss + 0.01 * z, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_stored_teacher_is_asked_of_learned_tokens(training: bool) -> None:
    loss, kl, _ = plain()
    got, (asked,) = found(batch(), training, kd_weight=2.0, offline=True, top_k=VOCABULARY)
    assert asked.addresses.tolist() == [101, 103, 104, 108, 111] and asked.tokens.tolist() == [1, 3, 4, 8, 11]
    assert asked.labels.tolist() == [4, 10, 13, 5, 14]
    assert got["objective"] == pytest.approx(loss + 2 * kl, rel=1e-4)
    assert got.get("teacher_loss") == (None if training else 7.0), "what is stored of it"


@pytest.mark.parametrize(
    ("settings", "teacher", "names"),
    [
        ({"kd_weight": 0.0}, False, {"objective", "loss"}),
        ({"kd_weight": 0.0, "z_loss": 0.1}, False, {"objective", "loss", "z_loss"}),
        ({"kd_weight": 1.0}, True, {"objective", "loss", "divergence", "teacher_loss", "kl"}),
        ({"kd_weight": 1.0, "offline": True, "top_k": 3}, True, {"objective", "loss", "divergence", "teacher_loss"}),
    ],
)
def test_a_pass_of_padding_has_the_names_of_others(settings: Any, teacher: bool, names: set[str]) -> None:
    """And zeros; their mean with those of the other passes is told."""
    got, asked = found(batch(torch.zeros(2, 6)), False, teacher, **settings)
    assert got == dict.fromkeys(names, 0.0) and not asked


def test_passes_over_the_records_are_counted() -> None:
    class Train:
        records, efficiency = range(17), 0.75

        def __len__(self) -> int:
            return 8

    train: Any = Train()
    told = sft._packing(train, SftConfig.model_validate(COMMON | {"kd_weight": 0.0}))
    assert told == {"records": 17, "sequences": 8, "efficiency": 0.75, "passes": 3.0}
