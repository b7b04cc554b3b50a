"""Distillation: its losses against a plain float64 formula, what it wins back, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.tokens.windows import Windows
from tests.fixtures.jobs import SHAPE, TRAINING, first, killed_after_a_checkpoint, last, refused, run_job

pytestmark = pytest.mark.slow
CONFIG = {"steps": 20, **TRAINING, "lr": 1e-3}


def reference(teacher: Path, student: Path, corpus: Path, temperature: float) -> tuple[float, float]:
    """KL(teacher || student) at a temperature and the student's cross-entropy, nats per token, in float64 by hand."""
    from transformers import AutoModelForCausalLM

    windows = torch.from_numpy(Windows(corpus / "validation", 64).tokens_at(range(16)))
    logs, losses = [], []
    for directory in (teacher, student):
        model = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=torch.float64)
        with torch.no_grad():
            logits = model(windows[:, :-1]).logits
        logs.append((logits / temperature).log_softmax(-1))
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item())
    p, q = logs
    return (p.exp() * (p - q)).sum(-1).mean().item(), losses[1]


@pytest.mark.parametrize(("temperature", "ce_share"), [(1.0, 0.0), (2.0, 0.3)])
def test_losses_equal_the_formula_and_fall(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, temperature: float, ce_share: float
) -> None:
    config = CONFIG | {"temperature": temperature, "ce_share": ce_share}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    taught = run_job("distill", config, inputs, tmp_path / "taught")
    divergence, loss = reference(teacher, student, corpus, temperature)
    kl, _ = reference(teacher, student, corpus, 1.0)
    assert first(taught, "val_divergence") == pytest.approx(divergence, rel=1e-4)
    assert first(taught, "val_kl") == pytest.approx(kl, rel=1e-4)
    assert first(taught, "val_loss") == pytest.approx(loss, rel=1e-4)
    assert first(taught, "val_objective") == pytest.approx((1 - ce_share) * divergence + ce_share * loss, rel=1e-4)
    after, _ = reference(teacher, taught, corpus, 1.0)
    assert after == pytest.approx(last(taught, "val_kl"), rel=1e-3)
    assert after < 0.6 * kl


@pytest.mark.parametrize(
    "choice",
    [
        {"loss": "reverse_kl"},
        {"loss": "jensen_shannon"},
        pytest.param({"top_k": 16}, marks=pytest.mark.drill),
        {"top_k": 16, "rest_bucket": True, "scale_by_t2": True, "temperature": 2.0},
    ],
)
def test_every_loss_brings_the_student_nearer(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, choice: dict[str, Any]
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    taught = run_job("distill", CONFIG | choice, inputs, tmp_path / "taught")
    assert last(taught, "val_divergence") < 0.7 * first(taught, "val_divergence")
    assert last(taught, "val_kl") < 0.8 * first(taught, "val_kl")


def test_losses_between_layers_start_as_the_formula_and_fall(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    windows = torch.from_numpy(Windows(corpus / "validation", 64).tokens_at(range(16)))[:, :-1]
    states = []
    for directory in (student, teacher):
        model = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=torch.float32)
        with torch.no_grad():
            states.append(model(windows, output_hidden_states=True).hidden_states)
    ours, theirs = states
    expected = {
        "cosine": (1 - torch.cosine_similarity(ours[2], theirs[3], dim=-1)).mean().item(),
        "mse": (ours[1] - theirs[1]).square().mean().item(),
    }
    pairs = [
        {"student_layer": 2, "teacher_layer": 3, "loss": "cosine"},
        {"student_layer": 1, "teacher_layer": 1, "loss": "mse"},
    ]
    config = CONFIG | {"intermediate": pairs, "intermediate_weight": 2.0}
    taught = run_job("distill", config, {"data": corpus, "teacher": teacher, "student": student}, tmp_path / "taught")
    mean = sum(expected.values()) / 2
    assert first(taught, "val_intermediate") == pytest.approx(mean, rel=1e-4)
    assert first(taught, "val_objective") == pytest.approx(first(taught, "val_divergence") + 2 * mean, rel=1e-4)
    assert last(taught, "val_intermediate") < 0.9 * mean
    assert {"val_kl", "val_loss", "val_teacher_loss"} <= set(
        json.loads((taught / "metrics.jsonl").read_text().splitlines()[-1])["values"]
    )


@pytest.mark.drill
def test_width_projection_resumes_and_is_not_exported(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    narrow = run_job(
        "prune",
        {"hidden_size": 16},
        {"data": corpus, "teacher": teacher, "importance": importance},
        tmp_path / "narrow",
    )
    inputs = {"data": corpus, "teacher": teacher, "student": narrow}
    pairs = [{"student_layer": 2, "teacher_layer": 2}, {"student_layer": 4, "teacher_layer": 4, "loss": "mse"}]
    balanced = {"intermediate": pairs, "intermediate_weight": "balanced", "ce_share": "balanced"}
    config = CONFIG | balanced | {"steps": 30, "checkpoint_every": 5}
    whole = run_job("distill", config, inputs, tmp_path / "whole")
    assert last(whole, "val_intermediate") < first(whole, "val_intermediate")
    # cross-entropy, and as much again for all that is taught
    assert first(whole, "train_objective") == pytest.approx(2 * first(whole, "train_loss"), rel=1e-4)
    killed_after_a_checkpoint("distill", config, inputs, tmp_path / "killed")
    run_job("distill", config, inputs, tmp_path / "killed")
    expected = load_file(whole / "model" / "model.safetensors")
    assert not [name for name in expected if "projection" in name]
    for name, tensor in load_file(tmp_path / "killed" / "model" / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("held", [pytest.param("full", marks=pytest.mark.drill), "fp8"])
def test_a_killed_distillation_resumes_to_the_same_student(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, held: str
) -> None:
    config = CONFIG | {"steps": 30, "checkpoint_every": 5, "teacher_weights": held}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    whole = run_job("distill", config, inputs, tmp_path / "whole")
    killed_after_a_checkpoint("distill", config, inputs, tmp_path / "killed")
    run_job("distill", config, inputs, tmp_path / "killed")
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(31)), "every step is logged once"
    expected = load_file(whole / "model" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "killed" / "model" / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "with_it",
    [
        {
            "parallel": {"recompute": True},
            "mtp": {"heads": 1},
            "intermediate": [{"student_layer": 2, "teacher_layer": 3}],
        },
        pytest.param({"document_mask": True, "precision": "bf16"}, marks=pytest.mark.drill),
        pytest.param({"mtp": {"heads": 1}, "document_mask": True}, marks=pytest.mark.drill),
    ],
)
def test_a_teacher_in_fp8_teaches_nearly_as_in_full(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, with_it: dict[str, Any]
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    full, fp8 = (
        run_job("distill", CONFIG | with_it | {"teacher_weights": held}, inputs, tmp_path / held)
        for held in ("full", "fp8")
    )
    for name in ("val_kl", "val_objective"):
        assert first(fp8, name) == pytest.approx(first(full, name), rel=0.05)
        assert first(fp8, name) != first(full, name), "the teacher was not held in FP8"
    assert first(fp8, "val_loss") == first(full, "val_loss"), "the student is as it was"
    assert last(fp8, "val_loss") == pytest.approx(last(full, "val_loss"), rel=0.01)
    assert last(fp8, "val_kl") < 0.9 * first(fp8, "val_kl")


def test_another_vocabulary_is_refused(
    corpus: Path, student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"shape": SHAPE | {"vocab_size": 512}, "steps": 1, **TRAINING, "warmup_steps": 0}
    wider = run_job("teacher", config, {"data": corpus}, tmp_path / "wider")
    inputs = {"data": corpus, "teacher": wider, "student": student}
    assert "512 vocabulary rows" in refused("distill", CONFIG, inputs, tmp_path / "taught", capfd)


def test_a_teacher_whose_weights_did_not_load_is_refused(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    blank = tmp_path / "blank" / "model"
    blank.mkdir(parents=True)
    for file in (teacher / "model").iterdir():
        (blank / file.name).write_bytes(file.read_bytes())
    zeros = {name: torch.zeros_like(tensor) for name, tensor in load_file(blank / "model.safetensors").items()}
    save_file(zeros, blank / "model.safetensors", metadata={"format": "pt"})
    inputs = {"data": corpus, "teacher": blank.parent, "student": student}
    assert "its weights did not load" in refused("distill", CONFIG, inputs, tmp_path / "taught", capfd)
    assert not (tmp_path / "taught" / "model").exists()
