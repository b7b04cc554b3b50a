"""Quantization-aware distillation: it lowers the loss of what is shipped, goes on where it was killed, and refuses what
it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open

from conf.stages.qad import QADConfig
from conf.stages.quantize import QuantizeConfig
from tests.fixtures.jobs import TRAINING, refused, run_job

pytestmark = pytest.mark.slow
QAD = TRAINING | {"steps": 40, "lr": 3e-4, "min_lr": 3e-5, "validate_every": 10, "checkpoint_every": 5}
CONFIG = {"format": "nvfp4", "calibration_samples": 8, "seq_length": 64, "batch": 4}


@pytest.fixture(scope="session")
def taught(corpus: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The trained model in NVFP4, as it is calibrated and after distillation from itself unquantized."""
    folder, inputs = tmp_path_factory.mktemp("qad"), {"model": teacher, "data": corpus}
    configs = {"ptq": CONFIG, "qad": CONFIG | {"qad": QAD}}
    return {name: run_job("quantize", config, inputs, folder / name) for name, config in configs.items()}


def distance(output: Path, teacher: Path, corpus: Path) -> float:
    """Forward KL of a shipped checkpoint from its source on test text, nats per token, by the plain formula."""
    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized
    from jobs.tokens.windows import Windows

    windows = Windows(corpus / "test", 64)
    tokens = torch.from_numpy(windows.tokens_at(range(min(16, len(windows)))))[:, :-1]
    with torch.inference_mode():
        ours = quantized.load(output / "model", torch.bfloat16)(tokens, use_cache=False).logits.double().log_softmax(-1)
        theirs = (
            hf.load_model(teacher / "model", torch.bfloat16)(tokens, use_cache=False).logits.double().log_softmax(-1)
        )
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


def test_qad_brings_the_nvfp4_model_nearer_to_its_source(taught: Any, teacher: Path, corpus: Path) -> None:
    before, after = (distance(taught[name], teacher, corpus) for name in ("ptq", "qad"))
    assert after < 0.8 * before
    record = json.loads((taught["qad"] / "quantize.json").read_text())
    history = record["qad"]["history"]
    assert [line["step"] for line in history] == [0, 10, 20, 30, 40]
    assert history[-1]["val_kl"] < 0.8 * history[0]["val_kl"]
    assert record["format"] == "nvfp4-qad" and record["qad"]["tokens"] == 40 * 8 * 64
    assert record["verified"]["logits_equal"]


def test_restarted_job_continues_from_its_checkpoint(
    teacher: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG | {"qad": QAD | {"steps": 12, "validate_every": 3}}
    inputs, output = {"model": teacher, "data": corpus}, tmp_path / "qad"
    first = (run_job("quantize", config, inputs, output) / "model" / "model.safetensors").read_bytes()
    assert "continuing" not in capfd.readouterr().out
    again = (run_job("quantize", config, inputs, output) / "model" / "model.safetensors").read_bytes()
    assert "resuming quantization-aware distillation at step 10" in capfd.readouterr().out
    assert again == first
    history = json.loads((output / "quantize.json").read_text())["qad"]["history"]
    assert [line["step"] for line in history] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("per_head", [pytest.param(False, marks=pytest.mark.drill), True])
def test_muon_steps_the_matrices_and_resumes(teacher: Path, corpus: Path, tmp_path: Path, per_head: bool) -> None:
    muon = {"name": "muon", "per_head": per_head, "embedding_weight_decay": 0}
    config = CONFIG | {"qad": QAD | {"steps": 12, "validate_every": 3, "optimizer": muon}}
    inputs, output = {"model": teacher, "data": corpus}, tmp_path / "qad"
    model = run_job("quantize", config, inputs, output) / "model" / "model.safetensors"
    whole = model.read_bytes()
    with safe_open(output / "checkpoints" / "step-00000010" / "state.safetensors", "pt") as state:
        second = {name for name in state.keys() if name.startswith("second.")}  # noqa: SIM118 - not a dict
    assert second and not any("_proj" in name for name in second)
    run_job("quantize", config, inputs, output)
    assert model.read_bytes() == whole
    first, *_, end = (line["val_kl"] for line in json.loads((output / "quantize.json").read_text())["qad"]["history"])
    assert end < first


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"format": "fp8"}, marks=pytest.mark.drill),
        pytest.param({"format": "int4_awq", "block_size": 32}, marks=pytest.mark.drill),
        {"format": "int8_sq", "kv_cache": "fp8"},
    ],
)
def test_other_formats_are_taught_too(teacher: Path, corpus: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    qad = QAD | {
        "steps": 4,
        "lr": 1e-5,
        "min_lr": 1e-6,
        "warmup_steps": 1,
        "temperature": 2.0,
        "ce_share": 0.1,
        "precision": "bf16",
    }
    output = run_job("quantize", CONFIG | form | {"qad": qad}, {"model": teacher, "data": corpus}, tmp_path / "qad")
    record = json.loads((output / "quantize.json").read_text())
    assert record["verified"]["logits_equal"]
    first, *_, last = (line["val_kl"] for line in record["qad"]["history"])
    assert last < 1.1 * first, "these formats start so near that a few small steps can only keep them there"


def test_sequences_longer_than_the_model_are_refused(
    teacher: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = CONFIG | {"qad": QAD | {"seq_length": 129}}
    assert "max_position_embeddings 128" in refused(
        "quantize", config, {"model": teacher, "data": corpus}, tmp_path / "out", capfd
    )


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"loss": "reverse_kl"}, "qad.loss is reverse_kl, but ModelOpt's"),
        ({"top_k": 5}, "qad.top_k is 5"),
        ({"parallel": {"processes": 2}}, "qad.parallel.processes is 2"),
        ({"steps": 0, "warmup_steps": 0}, "qad.steps is 0"),
    ],
)
def test_unsupported_settings_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        QADConfig(**(QAD | values))


def test_its_name_says_so() -> None:
    assert QuantizeConfig(format="nvfp4", qad=QADConfig(**QAD)).name == "nvfp4-qad"
