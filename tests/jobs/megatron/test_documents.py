"""Documents kept apart inside a sequence, through the models that train: each computes as if it were alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.parallel import Parallel
from conf.stages.distill import DistillConfig
from conf.stages.teacher import TeacherConfig
from jobs.megatron import distillation, mtp, training, weights
from jobs.megatron import fused_loss as fused
from jobs.megatron import model as megatron
from jobs.megatron.batches import Batch, micro_batches
from jobs.tokens.documents import kept_apart
from jobs.tokens.indexed import IndexedWriter
from jobs.tokens.phased import splits_of
from jobs.tokens.windows import Samples
from tests.fixtures.families import logits, random_model
from tests.fixtures.training import SETTINGS, made
from tests.jobs.megatron.test_model import own

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")
END = 0
LENGTHS = [[9, 30, 25], [40, 24]]
"""Documents of two sequences of 64 tokens, some longer than the windows of 20."""


def rows(vocabulary: int, seed: int = 5) -> np.ndarray:
    """Sequences of these documents, each with its end token, and a token after the last."""
    generator, found = np.random.default_rng(seed), []
    for lengths in LENGTHS:
        row = generator.integers(1, vocabulary, sum(lengths) + 1)
        row[np.cumsum(lengths) - 1] = END
        found.append(row)
    return np.array(found)


def samples_of(tokens: np.ndarray, *, apart: bool = True) -> Samples:
    plain = Samples(addresses=tokens[:, :-1], tokens=tokens)
    return kept_apart(plain, END) if apart else plain


def by_document(losses: torch.Tensor) -> list[float]:
    """Means over the targets of each document [2, 64], without that of its end."""
    parts = [part for row, lengths in zip(losses, LENGTHS, strict=True) for part in row.split(lengths)]
    return [part[:-1].mean().item() for part in parts]


def cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(scores.flatten(0, -2), targets.flatten(), reduction="none")


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gemma3_text", "smollm3", "qwen3_moe"])
def test_losses_are_those_of_each_document_alone(name: str, tmp_path: Path) -> None:
    """Megatron's packed rows against transformers, which is given one document at a time: whole attention, windows,
    caps, two rotary embeddings, layers without any, and experts."""
    theirs = random_model(name, tmp_path, torch.float32, **own(name))
    config = megatron.read_config(tmp_path)
    tokens = rows(config["vocab_size"])
    alone = []
    for row, lengths in zip(torch.from_numpy(tokens), LENGTHS, strict=True):
        for document in row[:-1].split(lengths):
            scores = logits(theirs, document[None, :-1])
            alone.append(cross_entropy(scores, document[1:]).mean().item())
    model = megatron.build(config, Parallel(), "fp32", torch.device("cpu"))
    weights.load(model, tmp_path, config)
    settings = TeacherConfig.model_validate(SETTINGS | {"seq_length": 64, "document_mask": True})
    [batch] = micro_batches(samples_of(tokens), settings)
    with torch.no_grad():
        inputs = batch.tokens.view(1, -1), batch.positions.view(1, -1), None
        packed = model.eval()(*inputs, packed_seq_params=batch.packed)
        mixed = model(batch.tokens, torch.arange(64).expand(2, 64), None)
    found = by_document(cross_entropy(packed, batch.labels).view(2, 64))
    assert found == pytest.approx(alone, rel=2e-6)
    crossed = by_document(cross_entropy(mixed, batch.labels).view(2, 64))
    assert [crossed[first] for first in (0, 3)] == pytest.approx([alone[first] for first in (0, 3)], rel=2e-6)
    assert all(abs(crossed[later] - alone[later]) > 1e-3 for later in (1, 2, 4)), "a mask that does nothing is seen"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of 2 to 12 tokens of a small vocabulary."""
    folder = tmp_path_factory.mktemp("text")
    for seed, name in enumerate(("train", "validation")):
        generator = np.random.default_rng(seed)
        lengths = generator.integers(2, 13, 90)
        with IndexedWriter(folder / name, np.dtype(np.uint16)) as writer:
            for length in lengths:
                document = np.array([*generator.integers(1, 24, length - 1), END])
                writer.add(document, np.array([length], np.int32))
    (folder / "statistics.json").write_text(json.dumps({"eod_id": END}))
    return folder


def trained(output: Path, text: Path, **given: Any) -> tuple[Any, list[tuple[int, dict[str, float]]]]:
    """A model trained on `text`, and what was logged."""
    config = TeacherConfig.model_validate(SETTINGS | {"document_mask": True} | given)
    model, hf_config = made()
    mtp.attach(model, hf_config, config)
    output.mkdir(exist_ok=True)
    objective = training.language_model(mtp=config.mtp)
    training.train(model, hf_config, config, objective, splits=splits_of(text, config), output=output)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return model, [(line["step"], line["values"]) for line in lines]


PHASES = {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 16, "rope_theta": 40000}]}


@pytest.mark.parametrize("given", [{}, PHASES, {"mtp": {"heads": 2}}], ids=["one length", "phases", "heads"])
def test_a_killed_run_is_the_same(given: dict[str, Any], text: Path, tmp_path: Path) -> None:
    model, logged = trained(tmp_path / "whole", text, **given)
    killed, name = tmp_path / "killed", "step-00000002"
    shutil.copytree(tmp_path / "whole" / "checkpoints" / name, killed / "checkpoints" / name)
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] <= 2))
    again, theirs = trained(killed, text, **given)
    assert theirs == logged
    for (parameter, ours), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, other), parameter


def test_every_step_tells_what_was_kept_apart(text: Path, tmp_path: Path) -> None:
    _, logged = trained(tmp_path / "apart", text)
    steps = [values for step, values in logged if step]
    assert len(steps) == 4
    for values in steps:
        assert 1 < values["documents_per_sequence"] < 5
        assert 0.5 <= values["mixed_sequences"] <= 1
        assert 0 < values["targets_left_out"] < 0.5
    _, plain = trained(tmp_path / "plain", text, document_mask=False)
    assert not [values for _, values in plain if "mixed_sequences" in values]
    assert plain[0][1]["val_loss"] != logged[0][1]["val_loss"], "validation sees the training's mask"


@pytest.mark.parametrize("given", [{"micro_batch": 1}, {"micro_batch": 4}, {"parallel": {"recompute": True}}])
def test_the_way_of_computing_changes_no_loss(given: dict[str, Any], text: Path, tmp_path: Path) -> None:
    _, expected = trained(tmp_path / "whole", text)
    _, found = trained(tmp_path / "other", text, **given)
    for (_, one), (_, other) in zip(expected, found, strict=True):
        assert one.keys() == other.keys()
        assert other == pytest.approx(one, rel=1e-5)


PAIR = {"intermediate": [{"student_layer": 1, "teacher_layer": 2}], "ce_share": 0.3}


def distilled(samples: Samples, micro_batch: int) -> dict[str, float]:
    """Losses of a student beside its teacher, both of two layers and their own weights."""
    settings = {name: value for name, value in SETTINGS.items() if name != "model"}
    length, count = samples.tokens.shape[1] - 1, len(samples.tokens)
    given = settings | PAIR | {"seq_length": length, "micro_batch": micro_batch, "global_batch": count}
    config = DistillConfig.model_validate(given | {"document_mask": samples.segments is not None})
    (student, hf_config), (teacher, _) = made(), made()
    weights.initialize(teacher, hf_config, 7)
    model = distillation.pair(student, teacher, config)
    model.eval()
    sums: dict[str, float] = {}
    passes = micro_batches(samples, config)
    for batch in passes:
        with torch.no_grad():
            hidden = states(model, batch)
            values = distillation.losses(model, hidden, batch, config=config, source=distillation.running_teacher)
        sums = {name: sums.get(name, 0.0) + float(value) / len(passes) for name, value in values.items()}
    return sums


def states(model: Any, batch: Batch) -> torch.Tensor:
    if batch.packed is None:
        return torch.as_tensor(model(batch.tokens, batch.positions, None))
    inputs = batch.tokens.view(1, -1), batch.positions.view(1, -1), None
    return torch.as_tensor(model(*inputs, packed_seq_params=batch.packed))


def parts_of(tokens: np.ndarray) -> list[np.ndarray]:
    """The documents of `rows`."""
    return [
        part for row, each in zip(tokens, LENGTHS, strict=True) for part in np.split(row[:-1], np.cumsum(each)[:-1])
    ]


def drafted(samples: Samples, heads: int, *, taught: bool) -> dict[str, float]:
    """Losses of heads beside a model, and how many drafts they are of."""
    config = TeacherConfig.model_validate(
        SETTINGS
        | {"seq_length": samples.tokens.shape[1] - 1, "micro_batch": len(samples.tokens), "mtp": {"heads": heads}}
        | {"document_mask": samples.segments is not None, "global_batch": len(samples.tokens)}
    )
    assert config.mtp
    (model, hf_config), (teacher, _) = made(), made()
    mtp.attach(model, hf_config, config)
    weights.initialize(teacher, hf_config, 7)
    [batch] = micro_batches(samples, config)
    model.eval()
    with torch.no_grad():
        theirs = fused.head(teacher, states(teacher.eval(), batch)) if taught else None
        mix = fused.LossWeights(divergence=0.7 if taught else 0, cross_entropy=0.3)
        how = mtp.Taught(mtp=config.mtp, weights=mix, teacher=theirs)
        found = mtp.losses(model, states(model, batch), batch, how)
    return {name: float(value) for name, value in found.items()} | mtp.counted(samples, config)


@pytest.mark.parametrize("taught", [False, True])
def test_a_head_knows_and_says_tokens_of_one_document(taught: bool) -> None:
    """Its loss, drafts, and objective beside a teacher are those of the documents alone."""
    tokens, expected = rows(24), {"mtp_drafts": 0.0}
    documents = parts_of(tokens)
    count = sum(len(document) - 2 for document in documents)
    for document in documents:
        alone = drafted(samples_of(document[None], apart=False), 1, taught=taught)
        expected["mtp_drafts"] += len(document) - 2
        for name in ("mtp_loss", "mtp_accepted", "objective"):
            expected[name] = expected.get(name, 0.0) + alone[name] * (len(document) - 2) / count
    assert drafted(samples_of(tokens), 1, taught=taught) == pytest.approx(expected, rel=1e-5)


def test_a_second_head_looks_one_token_further() -> None:
    tokens = rows(24)
    found = drafted(samples_of(tokens), 2, taught=False)
    count, loss = 0, 0.0
    for document in parts_of(tokens):
        alone = drafted(samples_of(document[None], apart=False), 2, taught=False)
        count, loss = count + len(document) - 3, loss + alone["mtp_loss_2"] * (len(document) - 3)
    assert (found["mtp_drafts_2"], found["mtp_loss_2"]) == pytest.approx((count, loss / count), rel=1e-5)


def test_teacher_and_student_see_the_same_documents() -> None:
    """Divergence, cross-entropy and the loss between layers of two sequences are means over their documents alone."""
    tokens = rows(24)
    expected: dict[str, float] = {}
    lengths = [length for row in LENGTHS for length in row]
    for document in parts_of(tokens):
        alone = distilled(samples_of(document[None], apart=False), 1)
        share = (len(document) - 1) / (sum(lengths) - len(lengths))
        expected = {name: expected.get(name, 0.0) + share * value for name, value in alone.items()}
    for micro_batch in (1, 2):
        assert distilled(samples_of(tokens), micro_batch) == pytest.approx(expected, rel=1e-5)
    crossed = distilled(samples_of(tokens, apart=False), 2)
    assert abs(crossed["kl"] - expected["kl"]) > 1e-3
