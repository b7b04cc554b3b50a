"""The verify stage: exports of a really trained model score in vLLM what they score here; what does not is refused."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conf.engines import vllm
from conf.engines.verdict import Contents
from conf.spec import Spec
from jobs import verify
from jobs.evaluation import engine
from jobs.huggingface import model as hf
from jobs.quantization import checkpoint
from jobs.runtime.entry import Metrics
from jobs.tokens.indexed import IndexedWriter
from tests.fixtures.families import logits, random_model
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
    from jobs.tokens.windows import Windows

    samples = Windows(trained[1] / "test", 128).tokens_at(range(8))
    narrow = hf.load_model(shared_data / "weights" / "stories260K-hf", torch.float32)
    wide = hf.load_model(trained[0] / "model", torch.float32)
    losses = [scoring.score_sequences(model, None, samples, 4)[:, 0] for model in (narrow, wide)]
    assert losses[0].mean() < 2
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)


LOSSES = [2.0, 2.5, 3.0, 3.5]
HERE = [2.001, 2.502, 2.999, 3.502]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The stage with the losses of an engine and a simulation made by hand; what it wrote, and how it simulated."""

    def run(kv: Any = None, on_cpu: bool = True, **settings: Any) -> tuple[dict[str, Any], Any]:
        how: list[Any] = []
        told = engine.Scored(version="0.32", losses=LOSSES, kernels=("k",), cache="fp8", on_cpu=on_cpu)
        held = Contents(algorithms=("FP8",), kv=kv)
        monkeypatch.setattr(engine, "losses", lambda *_: told)
        monkeypatch.setattr(engine, "contents", lambda _: held)
        monkeypatch.setattr(verify, "_samples", lambda *_: np.zeros((4, 9), np.int64))
        monkeypatch.setattr(verify, "_simulated", lambda *_, cache: how.append(cache) or HERE)
        config = {"seq_length": 8} | settings
        inputs = {"model": str(tmp_path), "data": str(tmp_path)}
        spec = Spec(stage="verify", key="k", config=config, inputs=inputs, output=str(tmp_path))
        try:
            verify.run(spec)
        finally:
            record = json.loads((tmp_path / "verify.json").read_text())
        return record, how[0]

    return run


def test_losses_are_compared_in_pairs(asked: Any, tmp_path: Path) -> None:
    Metrics(tmp_path).log(1)  # of a killed attempt
    record, _ = asked()
    differences = [-0.001, -0.002, 0.001, -0.002]
    mean, half = statistics.fmean(differences), 3.182446305 * statistics.stdev(differences) / 2  # t of 3 degrees
    assert record["difference"] == pytest.approx(mean)
    assert record["difference_ci95"] == [pytest.approx(mean - half), pytest.approx(mean + half)]
    assert (record["loss"], record["simulated_loss"]) == (2.75, pytest.approx(2.751))
    assert (record["sequences"], record["tokens"], record["max_difference"]) == (4, 32, 0.02)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(4, 8), (8, 8)]


@pytest.mark.parametrize(
    ("kv", "on_cpu", "cache", "verified"),
    [("fp8", True, False, False), ("fp8", False, True, True), (None, True, False, True), (None, False, True, True)],
)
def test_a_cpu_does_not_verify_a_cache(kv: Any, on_cpu: bool, cache: bool, verified: bool, asked: Any) -> None:
    record, simulated = asked(kv, on_cpu)
    assert (simulated, record["cache_verified"]) == (cache, verified)


def test_losses_that_differ_are_refused(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.jobs.test_verify.HERE", [loss - 0.01 for loss in LOSSES])
    assert asked()[0]["difference"] == pytest.approx(0.01)
    with pytest.raises(ValueError, match=r"the difference \+0.0100 .* is above 0.005; the model would not serve"):
        asked(max_difference=0.005)


@pytest.mark.parametrize(("tokens", "sequences", "found"), [(33, 16, 4), (32, 16, None), (80, 5, 5), (80, 16, 9)])
def test_the_first_sequences_of_the_test_split_are_scored(
    tokens: int, sequences: int, found: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
    monkeypatch.setattr(hf, "check", lambda _: {})
    monkeypatch.setattr(hf, "check_length", lambda _, length: lengths.append(length))
    with IndexedWriter(tmp_path / "test", np.dtype(np.uint16)) as writer:
        writer.add(np.arange(tokens), np.array([tokens], np.int32))
    config = verify.VerifyConfig(sequences=sequences, seq_length=8)
    if found is None:
        with pytest.raises(ValueError, match="the test split has 3 sequences of 8 tokens, too few for an interval"):
            verify._samples(tmp_path, tmp_path, config)
    else:
        samples = verify._samples(tmp_path, tmp_path, config)
        assert samples[:, 0].tolist() == [8 * number for number in range(found)] and samples.shape == (found, 9)
    assert lengths == [10], "the last target is read, and a token generated"


@pytest.mark.parametrize("packed", [False, True])
def test_losses_here_are_those_of_the_text(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the model in bf16; a quantized one is simulated with the cache that the engine has."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = random_model("llama", tmp_path, torch.bfloat16, vocab_size=24, head_dim=8, pad_token_id=None, **sizes)
    asked: list[Any] = []
    monkeypatch.setattr(checkpoint, "is_quantized", lambda _: packed)
    monkeypatch.setattr(checkpoint, "load", lambda _, dtype, cache: asked.append((dtype, cache)) or model.eval())
    samples = np.random.default_rng(0).integers(0, 24, (3, 9))
    found = verify._simulated(tmp_path, samples, verify.VerifyConfig(seq_length=8, batch=2), cache=False)
    table = logits(model.to(torch.bfloat16), torch.from_numpy(samples[:, :-1])).double().log_softmax(-1)
    expected = -table.gather(-1, torch.from_numpy(samples[:, 1:, None])).mean((1, 2))
    assert found == pytest.approx(expected.tolist(), rel=2e-2)
    assert asked == ([(torch.bfloat16, False)] if packed else [])


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
