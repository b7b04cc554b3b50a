"""The verify stage: exports of a really trained model score in vLLM what they score here; what does not is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.engines import vllm
from tests.fixtures.jobs import refused, run_job
from tests.fixtures.opened import CALIBRATION, quantized

FORMATS = ["fp8", "fp8_pc_pt", "fp8_pb_wo", "nvfp4", "nvfp4_mlp_only", "nvfp4_omlp_only"]


def verified(model: Path, data: Path, output: Path, **settings: Any) -> dict[str, Any]:
    """What the stage writes."""
    run_job("verify", settings, {"model": model, "data": data}, output)
    record: dict[str, Any] = json.loads((output / "verify.json").read_text())
    return record


@pytest.mark.slow
def test_a_widened_model_computes_the_same(trained: tuple[Path, Path], shared_data: Path, tmp_path: Path) -> None:
    from jobs.evaluation import scoring
    from jobs.huggingface import model as hf
    from jobs.tokens.windows import Windows

    samples = Windows(trained[1] / "test", 128).tokens_at(range(8))
    narrow = hf.load_model(shared_data / "weights" / "stories260K-hf", torch.float32)
    wide = hf.load_model(trained[0] / "model", torch.float32)
    losses = [scoring.score_sequences(model, None, samples, 4)[:, 0] for model in (narrow, wide)]
    assert losses[0].mean() < 2
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_missing_engine_is_told_first(
    trained: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    monkeypatch.setattr(vllm, "OWN", tmp_path / "nowhere")
    inputs = {"model": trained[0], "data": trained[1]}
    assert "run make engine there, name a Python that has vLLM in IMBIK_VLLM_PYTHON, or set verify to null" in refused(
        "verify", {}, inputs, tmp_path / "none", capfd
    )
    monkeypatch.setenv(vllm.PYTHON, sys.executable)
    sentence = refused("verify", {}, inputs, tmp_path / "other", capfd)
    assert "ModuleNotFoundError: No module named 'vllm'; its whole output is in" in sentence
    assert not (tmp_path / "other" / "verify.json").exists()


@pytest.mark.slow
def test_too_little_text_is_refused(
    trained: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {"model": trained[0], "data": trained[1]}
    long = refused("verify", {"seq_length": 511}, inputs, tmp_path / "long", capfd)
    assert "seq_length 513 is above the model's max_position_embeddings 512" in long


@pytest.mark.drill
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_means_the_same_in_vllm(trained: tuple[Path, Path], engine: None, tmp_path: Path, name: str) -> None:
    record = verified(quantized(trained, tmp_path / "q", format=name), trained[1], tmp_path / "v", sequences=32)
    assert record["max_difference"] == (0.05 if name.startswith("nvfp4") else 0.02)
    assert abs(record["difference"]) < record["max_difference"]
    assert record["kernels"] and record["cache_verified"] and 1.5 < record["loss"] < 2.2


@pytest.mark.drill
def test_an_unquantized_model_means_the_same_in_vllm(trained: tuple[Path, Path], engine: None, tmp_path: Path) -> None:
    record = verified(trained[0], trained[1], tmp_path / "v", sequences=32)
    assert abs(record["difference"]) < record["max_difference"] == 0.003


@pytest.mark.drill
def test_a_mix_means_the_same_in_vllm(trained: tuple[Path, Path], engine: None, tmp_path: Path) -> None:
    auto = {"formats": ["fp8", "nvfp4"], "effective_bits": 6.0}
    scores = run_job(
        "sensitivity",
        {"formats": ["fp8", "nvfp4"], **CALIBRATION},
        {"model": trained[0], "data": trained[1]},
        tmp_path / "scores",
    )
    mix = run_job(
        "quantize",
        CALIBRATION | {"auto": auto},
        {"model": trained[0], "data": trained[1], "sensitivity": scores},
        tmp_path / "q",
    )
    record = verified(mix, trained[1], tmp_path / "v", sequences=32)
    assert abs(record["difference"]) < record["max_difference"] == 0.05
    assert set(record["algorithms"]) == {"FP8", "NVFP4"}


@pytest.mark.drill
def test_scales_that_the_engine_reads_otherwise_are_found(
    trained: tuple[Path, Path], engine: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The engine is given other weights than those scored here, as where it would read them wrongly."""
    model = quantized(trained, tmp_path / "q", format="fp8")
    served = tmp_path / "served"
    shutil.copytree(model, served)
    tensors = load_file(served / "model" / "model.safetensors")
    tensors["model.layers.2.mlp.down_proj.weight_scale"] *= 4
    save_file(tensors, served / "model" / "model.safetensors", metadata={"format": "pt"})

    from jobs.evaluation import engine as judge

    theirs = judge.losses

    def other(directory: Path, tokens: list[list[int]], folder: Path) -> judge.Scored:
        return theirs(served / "model", tokens, folder)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judge, "losses", other)
        sentence = refused("verify", {}, {"model": model, "data": trained[1]}, tmp_path / "v", capfd)
    assert "is above 0.02; the model would not serve as it was measured" in sentence
    record = json.loads((tmp_path / "v" / "verify.json").read_text())
    assert record["difference_ci95"][0] > 0.02
