"""All measurements of a model, of a tiny one: what is counted, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.stages.evaluate import EvaluateConfig
from jobs.evaluation.measure import measure
from jobs.quantization import checkpoint
from tests.fixtures.families import logits, random_model

SAMPLES = np.arange(44).reshape(4, 11) * 5 % 32
SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    random_model("llama", made, torch.float32, **SIZES)
    return made


def config(**settings: Any) -> EvaluateConfig:
    given = {"mmlu": None, "precision": "fp32", "prompt_tokens": 5, "new_tokens": 0, "batch": 3}
    return EvaluateConfig.model_validate(given | settings)


def test_loss_and_counts_are_those_of_the_text(folder: Path, tmp_path: Path) -> None:
    model = random_model("llama", tmp_path, torch.float32, **SIZES)
    table = logits(model, torch.from_numpy(SAMPLES)).double().log_softmax(-1)
    expected = -table[:, :-1].gather(-1, torch.from_numpy(SAMPLES[:, 1:, None])).mean()
    scores, items, sequences = measure(folder, folder, SAMPLES, [], config())
    assert scores["val_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert scores["val_tokens"] == 4 * 10, "a token less than each sequence has: the first has none before it"
    assert (scores["num_params"], scores["simulated"]) == (sum(p.numel() for p in model.parameters()), False)
    assert scores["bytes"] == (folder / "model.safetensors").stat().st_size
    assert (scores["kl_teacher"], scores["agreement_teacher"], items) == (0.0, 1.0, [])
    assert all(len(column) == 4 for column in sequences.values())
    assert "tokens_per_second" not in scores, "new_tokens 0 leaves the speed out"


def test_a_teacher_elsewhere_is_compared_with(folder: Path, tmp_path: Path) -> None:
    random_model("llama", tmp_path, torch.float32, **SIZES | {"num_hidden_layers": 2})
    scores, _, _ = measure(folder, tmp_path, SAMPLES, [], config())
    assert scores["kl_teacher"] > 0.01


def test_the_speed_of_a_simulation_is_not_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert measure(folder, folder, SAMPLES, [], config(new_tokens=2))[0]["tokens_per_second"] > 0
    monkeypatch.setattr(checkpoint, "is_quantized", lambda directory: True)
    monkeypatch.setattr("jobs.evaluation.measure._load", _loaded(folder))
    scores, _, _ = measure(folder, folder, SAMPLES, [], config(new_tokens=2))
    assert scores["simulated"] and "tokens_per_second" not in scores
    assert "tokens_per_second is not measured" in capfd.readouterr().out


def _loaded(folder: Path) -> Any:
    from jobs.huggingface import model as hf

    return lambda directory, config: hf.load_model(folder, torch.float32)
