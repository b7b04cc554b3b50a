"""Fine-tuning on records: losses against a plain formula, layouts that change nothing, resuming, and what is
refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs.tokens.masked import MaskedTokens
from tests.fixtures.jobs import TRAINING, first, killed_after_a_checkpoint, last, refused, run_job

pytestmark = pytest.mark.slow
CONFIG = {"steps": 20, **TRAINING, "seq_length": 128, "lr": 2e-3}


@pytest.fixture(scope="module")
def records(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions on the invented world and their answers, in the tokens of the corpus."""
    config = {
        "source": "world",
        "world": {"seed": 3, "entities": 10, "documents": 400, "questions": 40},
        "seq_length": 128,
    }
    output = tmp_path_factory.mktemp("artifacts") / "records"
    return run_job("records", config | {"validation_share": 0.15, "test_share": 0.1}, {"data": corpus}, output)


def reference(records: Path, student: Path, teacher: Path, temperature: float = 1.0) -> tuple[float, float]:
    """Cross-entropy and KL(teacher || student) over the response tokens of the validation records, each record by
    itself, in float64."""
    from transformers import AutoModelForCausalLM

    models = [AutoModelForCausalLM.from_pretrained(path / "model", dtype=torch.float64) for path in (student, teacher)]
    split, losses, divergences = MaskedTokens(records / "validation"), [], []
    for number in range(len(split)):
        ids, mask = split.record(number)
        tokens, learned = torch.from_numpy(ids.astype("int64"))[None], torch.from_numpy(mask[1:].copy())
        with torch.no_grad():
            q, p = ((model(tokens).logits[0, :-1] / temperature).log_softmax(-1) for model in models)
        losses.append(-q.gather(1, tokens[0, 1:, None]).squeeze(1)[learned])
        divergences.append((p.exp() * (p - q)).sum(-1)[learned])
    return torch.cat(losses).mean().item(), torch.cat(divergences).mean().item()


def test_the_losses_are_means_over_response_tokens_and_fall(
    corpus: Path, teacher: Path, student: Path, records: Path, tmp_path: Path
) -> None:
    config = CONFIG | {"kd_weight": 0.7, "validation_batches": 50}
    tuned = run_job("sft", config, {"teacher": teacher, "student": student, "records": records}, tmp_path / "tuned")
    loss, divergence = reference(records, student, teacher)
    assert first(tuned, "val_loss") == pytest.approx(loss, rel=1e-4)
    assert first(tuned, "val_divergence") == pytest.approx(divergence, rel=1e-4)
    assert first(tuned, "val_objective") == pytest.approx(loss + 0.7 * divergence, rel=1e-4)
    after, divergence_after = reference(records, tuned, teacher)
    assert after == pytest.approx(last(tuned, "val_loss"), rel=1e-3)
    assert divergence_after == pytest.approx(last(tuned, "val_divergence"), rel=1e-3)
    assert after < 0.7 * loss
    packing = json.loads((tuned / "packing.json").read_text())
    assert packing["efficiency"] > 0.85 and packing["records"] == len(MaskedTokens(records / "train"))
    assert (tuned / "model" / "chat_template.jinja").read_text() == (records / "chat_template.jinja").read_text()


@pytest.fixture(scope="module")
def tuned_alone(student: Path, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CONFIG | {"steps": 6, "micro_batch": 4}
    return run_job(
        "sft", config, {"student": student, "records": records}, tmp_path_factory.mktemp("artifacts") / "tuned"
    )


@pytest.mark.parametrize("micro_batch", [1, 8])
def test_micro_batches_change_nothing(
    student: Path, records: Path, tuned_alone: Path, tmp_path: Path, micro_batch: int
) -> None:
    other = run_job(
        "sft",
        CONFIG | {"steps": 6, "micro_batch": micro_batch},
        {"student": student, "records": records},
        tmp_path / "other",
    )
    for metric in ("train_loss", "val_loss", "grad_norm"):
        assert last(other, metric) == pytest.approx(last(tuned_alone, metric), rel=1e-4)


def test_a_killed_fine_tuning_resumes_to_the_same_model(student: Path, records: Path, tmp_path: Path) -> None:
    config = CONFIG | {"steps": 40, "checkpoint_every": 5, "validate_every": 20}
    inputs = {"student": student, "records": records}
    whole = run_job("sft", config, inputs, tmp_path / "whole")
    killed_after_a_checkpoint("sft", config, inputs, tmp_path / "killed")
    run_job("sft", config, inputs, tmp_path / "killed")
    expected = load_file(whole / "model" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "killed" / "model" / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.drill
def test_best_weights_are_kept_when_training_overfits(student: Path, records: Path, tmp_path: Path) -> None:
    config = CONFIG | {
        "steps": 60,
        "lr": 2e-2,
        "validate_every": 5,
        "validation_batches": 50,
        "keep": "best",
        "best_by": "val_loss",
    }
    tuned = run_job("sft", config, {"student": student, "records": records}, tmp_path / "tuned")
    kept = json.loads((tuned / "kept.json").read_text())
    loss, _ = reference(records, tuned, tuned)
    assert loss == pytest.approx(kept["best"], rel=1e-3)
    assert kept["step"] == kept["best_step"] and kept["best"] <= last(tuned, "val_loss")


def test_records_of_another_tokenizer_are_refused(
    student: Path, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "some.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"{n}?", "response": f"{n}."}) + "\n" for n in range(60)))
    other = run_job("records", {"source": str(source), "test_share": 0}, {"tokenizer": words}, tmp_path / "other")
    sentence = refused("sft", CONFIG, {"student": student, "records": other}, tmp_path / "tuned", capfd)
    assert "were made with tokenizer" in sentence and "tokenize the corpus with the model's tokenizer" in sentence


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seq_length": 16}, "tokens but sft.seq_length is 16; choose at least"),
        ({"seq_length": 256}, "seq_length 256 is above the model's max_position_embeddings 128"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    student: Path, records: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    assert told in refused("sft", CONFIG | changes, {"student": student, "records": records}, tmp_path / "tuned", capfd)


def test_stored_logits_teach_as_the_teacher_does(teacher: Path, student: Path, records: Path, tmp_path: Path) -> None:
    """The same losses to the rounding of 16 bits, though the store was packed otherwise and holds the response tokens
    alone."""
    config = CONFIG | {"steps": 8, "kd_weight": 1.0, "top_k": 20}
    inputs = {"teacher": teacher, "student": student, "records": records}
    online = run_job("sft", config, inputs, tmp_path / "online")
    storing = {"top_k": 30, "seq_length": 120, "seed": 9, "precision": "fp32", "micro_batch": 3}
    stored = run_job("logits", storing, {"teacher": teacher, "records": records}, tmp_path / "stored")
    offline = run_job(
        "sft", config | {"offline": True, "micro_batch": 2}, inputs | {"logits": stored}, tmp_path / "offline"
    )
    for metric in ("val_divergence", "val_loss", "val_teacher_loss"):
        assert first(offline, metric) == pytest.approx(first(online, metric), rel=2e-3)
        assert last(offline, metric) == pytest.approx(last(online, metric), rel=2e-3)
    rows = json.loads((stored / "logits.json").read_text())["splits"]["train"]["rows"]
    assert rows == int(MaskedTokens(records / "train").mask.sum()), "each response token is stored once"


def test_logits_of_another_teacher_are_refused(
    teacher: Path, student: Path, records: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storing = {"top_k": 8, "seq_length": 128, "precision": "fp32"}
    stored = run_job("logits", storing, {"teacher": student, "records": records}, tmp_path / "stored")
    inputs = {"teacher": teacher, "student": student, "records": records, "logits": stored}
    sentence = refused(
        "sft", CONFIG | {"kd_weight": 1.0, "top_k": 8, "offline": True}, inputs, tmp_path / "tuned", capfd
    )
    assert "come from another teacher" in sentence
