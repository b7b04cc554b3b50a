"""Fine-tuning on packed records: its losses by the plain formulas, with small heads, and what it tells of packing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conf.spec import Spec
from conf.stages.sft import SftConfig
from jobs import sft
from jobs.megatron import distillation, inputs
from jobs.megatron import model as megatron
from jobs.megatron.batches import Batch
from jobs.megatron.distillation import TeacherSignal
from jobs.megatron.divergence import TopKLogits
from jobs.megatron.output_head import Head
from jobs.tokens.masked import MaskedWriter
from tests.fixtures.families import random_model
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank")

VOCABULARY, WIDTH = 20, 8
COMMON = {"steps": 3, "seq_length": 8, "global_batch": 4, "micro_batch": 2, "lr": 1e-2, "min_lr": 0, "warmup_steps": 0}
COMMON |= {"precision": "fp32", "validate_every": 9, "validation_batches": 1}


def random(*sizes: int, seed: int) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


HIDDEN, STUDENT = random(2, 6, WIDTH, seed=2), random(VOCABULARY, WIDTH, seed=1)
TEACHER = Head(hidden=random(12, WIDTH, seed=3), weight=random(VOCABULARY, WIDTH, seed=4))
WEIGHTS = torch.tensor([[0, 0, 0.1, 0, 0.2, 0], [0.3, 0, 0, 0.1, 0, 0.3]])
LABELS = torch.arange(12).view(2, 6)


def batch(weights: torch.Tensor = WEIGHTS) -> Batch:
    return Batch(addresses=100 + LABELS, tokens=LABELS, labels=LABELS, weights=weights, positions=LABELS)


def found(training: bool = True, teacher: bool = True, weights: torch.Tensor = WEIGHTS, **given: Any) -> Any:
    """The losses, and the batches that the teacher was asked for."""
    output = SimpleNamespace(weight=STUDENT)
    model: Any = SimpleNamespace(share_embeddings_and_output_weights=False, output_layer=output, training=training)
    asked: list[Batch] = []

    def source(_: Any, batch: Batch) -> TeacherSignal:
        asked.append(batch)
        return TeacherSignal(teacher=stored, loss=torch.tensor(1.25)) if offline else TeacherSignal(teacher=TEACHER)

    def stored(tokens: slice) -> TopKLogits:
        learned = WEIGHTS.flatten().nonzero().flatten()[tokens]
        values, ids = (TEACHER.hidden[learned] @ TEACHER.weight.T).log_softmax(-1).topk(3)
        rest = (1 - values.exp().sum(-1, keepdim=True)).log()
        return TopKLogits(indices=ids, inside=torch.ones_like(ids, dtype=torch.bool), logits=values, rest=rest)

    config = SftConfig.model_validate(COMMON | {"kd_weight": 0.5} | given)
    offline = config.offline
    got = sft.losses(model, HIDDEN, batch(weights), config=config, source=source if teacher else None)
    return {name: float(value) for name, value in got.items()}, asked


def plain() -> tuple[float, float]:
    """Cross-entropy and forward KL over the learned labels."""
    weights = WEIGHTS.flatten().double()
    ours = (HIDDEN.flatten(0, 1).double() @ STUDENT.double().T).log_softmax(-1)
    theirs = (TEACHER.hidden.double() @ TEACHER.weight.double().T).log_softmax(-1)
    loss = -(ours[torch.arange(12), LABELS.flatten()] * weights).sum()
    return float(loss), float(((theirs.exp() * (theirs - ours)).sum(-1) * weights).sum())


def test_without_a_teacher_responses_alone_are_learned() -> None:
    got, _ = found(teacher=False, kd_weight=0.0)
    loss = pytest.approx(plain()[0], rel=1e-5)
    assert got == {"objective": loss, "loss": loss}


@pytest.mark.parametrize("training", [True, False])
def test_the_divergence_is_added_by_its_weight(training: bool) -> None:
    """In validation also the KL of what is not weighed."""
    loss, kl = plain()
    got, (asked,) = found(training)
    assert got["objective"] == pytest.approx(loss + 0.5 * kl, rel=1e-5)
    assert (got["loss"], got["divergence"]) == (pytest.approx(loss, rel=1e-5), pytest.approx(kl, rel=1e-5))
    assert ("kl" in got) is (not training) and got.get("kl", kl) == pytest.approx(kl, rel=1e-5)
    assert asked.tokens.shape == (2, 6), "a teacher that runs reads whole rows"


@pytest.mark.parametrize("training", [True, False])
def test_stored_logits_are_asked_for_learned_tokens_alone(training: bool) -> None:
    """In validation their teacher's loss is told."""
    got, (asked,) = found(training, offline=True, top_k=3)
    assert got.get("teacher_loss") == (None if training else 1.25)
    assert asked.addresses.tolist() == [102, 104, 106, 109, 111]
    assert asked.labels.tolist() == asked.positions.tolist() == [2, 4, 6, 9, 11]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"kd_weight": 0.0, "teacher": False}, {"objective", "loss"}),
        ({}, {"objective", "loss", "divergence", "teacher_loss", "kl"}),
        ({"offline": True, "top_k": 3}, {"objective", "loss", "divergence", "teacher_loss"}),
        ({"kd_weight": 0.0, "teacher": False, "z_loss": 0.1}, {"objective", "loss", "z_loss"}),
    ],
)
def test_padding_alone_is_no_loss(given: dict[str, Any], names: set[str]) -> None:
    got, asked = found(training=False, weights=torch.zeros(2, 6), **given)
    assert got == dict.fromkeys(names, 0.0) and asked == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and eleven records of which five are for validation."""
    monkeypatch.setattr(inputs, "checked_model", lambda folder, *_: megatron.read_config(folder))
    small = SIZES | {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "intermediate_size": 24,
        "vocab_size": 24,
        "head_dim": 4,
    }
    random_model("llama", tmp_path / "model", torch.float32, **small)
    (tmp_path / "chat_template.jinja").write_text("of the records")
    (tmp_path / "model" / "chat_template.jinja").write_text("its own")
    for split, count in (("train", 6), ("validation", 5)):
        with MaskedWriter(tmp_path / split, np.dtype(np.uint16)) as writer:
            for number in range(count):
                writer.add([1, 2, 3, number, 4], [False, False, True, True, True])
    return tmp_path


@pytest.mark.usefixtures("nothing_beside")
def test_what_was_packed_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six records of five tokens, one in each row of eight: twelve rows in three steps are two passes."""
    (folder / "out").mkdir()
    spec = Spec(
        stage="sft",
        key="k",
        config=COMMON,
        inputs={"student": str(folder), "records": str(folder)},
        output=str(folder / "out"),
    )
    sft._tune(spec, SftConfig.model_validate(COMMON), torch.device("cpu"))
    told = json.loads((folder / "out" / "packing.json").read_text())
    assert told == {"records": 6, "sequences": 6, "efficiency": 5 / 8, "passes": 2.0}
    assert "6 records packed into 6 sequences of 8 tokens, 62.5% full" in capsys.readouterr().out
    assert (folder / "out" / "model" / "chat_template.jinja").read_text() == "of the records"


def test_between_stages_a_micro_batch_is_one_packed_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of eight, end to end; without a weight there is no teacher."""
    asked: list[Any] = []
    plugin = "modelopt.torch.distill.plugins.megatron.get_tensor_shapes_adjust_fn_for_distillation"
    monkeypatch.setattr(plugin, lambda model, **sizes: asked.append((model, sizes)) or "shapes")
    monkeypatch.setattr(sft, "_teacher", lambda *_: "teacher")
    monkeypatch.setattr(distillation, "pair", lambda student, teacher, _: (student, teacher))
    spec = Spec(stage="sft", key="k", config=COMMON, inputs={"records": str(folder)}, output="out")
    config, device = SftConfig.model_validate(COMMON | {"kd_weight": 1.0}), torch.device("cpu")
    model, source, shapes = sft._with_teacher(spec, config, "student", {}, device)
    assert (model, source, shapes) == (("student", "teacher"), distillation.running_teacher, "shapes")
    assert asked == [(model, {"seq_length": 16, "micro_batch_size": 1, "decoder_seq_length": None})]
    alone = sft._with_teacher(spec, SftConfig.model_validate(COMMON), "student", {}, device)
    assert alone == ("student", None, None)


@pytest.mark.parametrize(("micro", "replicas", "rows"), [(1, 1, 5), (2, 1, 6), (2, 2, 8)])
def test_validation_fills_whole_passes_of_all_replicas(micro: int, replicas: int, rows: int, folder: Path) -> None:
    given = {"micro_batch": micro, "parallel": {"processes": replicas}}
    train, validation = sft._splits(folder, SftConfig.model_validate(COMMON | given))
    assert (len(train), len(validation)) == (6, rows)
