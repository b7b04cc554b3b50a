"""The teacher stage: what it trains, imports and resumes, through its own program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.tokens.windows import Windows
from tests.fixtures.jobs import SHAPE, TRAINING, first, killed_after_a_checkpoint, last, refused, run_job
from tests.fixtures.weights import same

pytestmark = pytest.mark.slow
CONFIG = {"shape": SHAPE, "steps": 120, **TRAINING}
"""As the `teacher` fixture's."""


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def test_it_learns_and_transformers_agrees_with_its_loss(corpus: Path, teacher: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert last(teacher, "val_loss") < first(teacher, "val_loss") - 1.0
    model = AutoModelForCausalLM.from_pretrained(teacher / "model", dtype=torch.float32)
    windows = torch.from_numpy(Windows(corpus / "validation", 64).tokens_at(range(16)))
    with torch.no_grad():
        logits = model(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    assert loss == pytest.approx(last(teacher, "val_loss"), abs=1e-4)


def test_a_killed_run_resumes_to_the_same_weights(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    output = tmp_path / "teacher"
    killed_after_a_checkpoint("teacher", CONFIG, {"data": corpus}, output)
    run_job("teacher", CONFIG, {"data": corpus}, output)
    steps = [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(121)), "every step is logged once"
    for name, tensor in weights(teacher).items():
        torch.testing.assert_close(weights(output)[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_damaged_checkpoint_is_passed_over(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = run_job("teacher", CONFIG | {"steps": 20}, {"data": corpus}, tmp_path / "whole")
    newest = sorted((whole / "checkpoints").glob("step-*"))[-1]
    file = newest / "exp_avg" / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    before = weights(whole)
    run_job("teacher", CONFIG | {"steps": 20}, {"data": corpus}, whole)
    assert "is damaged" in capfd.readouterr().out
    assert same(before, weights(whole))


def test_import_without_training_keeps_every_weight(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "weights" / "stories260K-hf"
    config = {"source": str(shared_data / "text" / "tinystories.txt"), "max_documents": 400}
    data = run_job("data", config, {"tokenizer": source}, tmp_path / "data")
    teacher_config = {"model": str(source), "steps": 0, **TRAINING, "warmup_steps": 0}
    imported = run_job("teacher", teacher_config, {"data": data, "model": source}, tmp_path / "teacher")
    assert same(weights(imported), load_file(source / "model.safetensors"))


def test_tokens_of_another_tokenizer_are_refused(
    corpus: Path, shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = shared_data / "weights" / "stories260K-hf"
    config = {"model": str(source), "steps": 0, **TRAINING, "warmup_steps": 0}
    message = refused("teacher", config, {"data": corpus, "model": source}, tmp_path / "teacher", capfd)
    assert "tokenize the corpus with the model's tokenizer" in message
    assert not (tmp_path / "teacher" / "model").exists()


def test_a_corpus_shorter_than_a_sequence_is_refused(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = {"shape": SHAPE | {"max_position_embeddings": 10_000_000}, "steps": 10, **TRAINING, "seq_length": 1_000_000}
    assert "fewer than one sequence" in refused("teacher", long, {"data": corpus}, tmp_path / "teacher", capfd)
