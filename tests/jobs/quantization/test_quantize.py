"""What the quantize stage refuses before it loads a model, and what it writes of a tiny one in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.spec import Spec
from conf.stages.quantize import QuantizeConfig
from jobs import quantize
from jobs.huggingface import model as hf
from jobs.quantization import checkpoint, qad
from jobs.runtime.entry import Metrics
from jobs.tokens import blend_reader
from tests.jobs.quantization.conftest import FORMATS, SAMPLES
from tests.jobs.quantization.test_qad import SETTINGS
from tests.jobs.test_formats import unpack

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Checks a model of some config against a stage."""

    def check(config: dict[str, Any] = CONFIG, **settings: Any) -> None:
        monkeypatch.setattr(hf, "check", lambda _: config)
        monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
        quantize.check(tmp_path, tmp_path, QuantizeConfig.model_validate({"seq_length": 64} | settings))

    return check


def test_what_fits_passes(checked: Callable[..., None]) -> None:
    checked(format="fp8")
    checked(format="nvfp4", kv_cache="nvfp4", qad=SETTINGS | {"seq_length": 64})


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        (CONFIG | {"quantization_config": {}}, {"format": "fp8"}, "is already quantized; quantize the model it was"),
        (CONFIG, {"format": "fp8", "seq_length": 65}, "65 is above the model's max_position_embeddings 64"),
        (CONFIG, {"format": "fp8", "qad": SETTINGS | {"seq_length": 65}}, "65 is above the model's max_position"),
        (
            CONFIG,
            {"format": "int4_awq", "block_size": 64},
            "intermediate_size is 96 wide, not a multiple of 64, the bl",
        ),
        (CONFIG, {"format": "fp8_pb_wo", "block_size": 32, "seq_length": 8}, None),
        (
            CONFIG | {"num_key_value_heads": 3},
            {"format": "fp8_pb_wo", "block_size": 32},
            "num_key_value_heads x head_dim is 48",
        ),
        (CONFIG | {"num_attention_heads": 5}, {"format": "int4_awq", "block_size": 32}, "heads is 80 wide"),
    ],
)
def test_what_does_not_fit_is_refused_first(
    config: dict[str, Any], settings: dict[str, Any], words: str | None, checked: Callable[..., None]
) -> None:
    if words is None:
        checked(config, **settings)
        return
    with pytest.raises(ValueError, match=words):
        checked(config, **settings)


def test_what_a_killed_attempt_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And sizes of both are written; also where nothing was left."""
    asked: list[Any] = []

    def made(source: Path, data: Path, output: Path, samples: Any, config: Any, mixed: Any) -> dict[str, Any]:
        asked.append((samples, mixed))
        assert not (output / "model").exists() and not (output / "quantize.json").exists()
        (output / "model").mkdir()
        (output / "model" / "old").touch()
        return {"format": "fp8"}

    split = SimpleNamespace(first=lambda count: f"the first {count}")
    monkeypatch.setattr(quantize, "check", lambda *_: None)
    monkeypatch.setattr(quantize, "_quantize", made)
    monkeypatch.setattr(quantize.contract, "of", lambda _: "judged")
    monkeypatch.setattr(quantize.contract, "record", lambda judged: {judged: True})
    monkeypatch.setattr(quantize, "loaded_by", lambda _: "")
    monkeypatch.setattr(blend_reader, "sample_split", lambda data, length, count: split)
    monkeypatch.setattr(hf, "weight_bytes", lambda folder: 10 if folder.parent.name == "source" else 4)
    (tmp_path / "source" / "model").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    inputs = {"model": str(tmp_path / "source"), "data": str(tmp_path)}
    config = {"format": "fp8", "calibration_samples": 5}
    for _ in range(2):
        quantize.run(Spec(stage="quantize", key="k", config=config, inputs=inputs, output=str(tmp_path / "out")))
        found = json.loads((tmp_path / "out" / "quantize.json").read_text())
        assert found == {"format": "fp8", "engines": {"judged": True}, "bytes_before": 10, "bytes_after": 4}
    assert asked == [("the first 5", None)] * 2


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_stored_and_read_back(name: str, made: Callable[[str], Any]) -> None:
    """The job's own comparison of weights and logits passes; what is read is what the definitions say."""
    folder, told = made(name)
    assert (told["samples"], told["tokens"]) == (5, 80)
    assert told["measured on"].tolist() == SAMPLES[:, :-1].tolist(), "what follows a window is not read"
    layers = 3 if name == "nvfp4_mlp_only" else 7
    assert told["quantized_layers"] == len(told["layers"]) == layers
    assert told["verified"] == {"tensors": 14, "weights_equal": True, "logits_equal": True}
    assert 0 < told["max_abs_error"] < 0.5
    for measured in (*told["layers"].values(), *told["kv_cache"].values()):
        assert (measured["samples"], measured["tokens"]) == (5, 80)
    assert all(measured["weights_db"] > 10 for measured in told["layers"].values())
    tensors = load_file(folder / "model.safetensors")
    for layer, packed in checkpoint.read(folder).layers.items():
        smoothing = tensors.get(f"{layer}.pre_quant_scale", torch.ones(1)).float()
        expected = unpack(tensors, layer, packed.algorithm) / smoothing
        bound = 0.07 if packed.algorithm == "W4A8_AWQ" else 1e-5  # whose kernel rounds to E4M3 besides
        assert (packed.dequantize(torch.float32) - expected).abs().max() <= bound * expected.abs().max()
    lines = [json.loads(line) for line in (folder.parent / "metrics.jsonl").read_text().splitlines()]
    assert all(line["values"] for line in lines), "what a killed attempt logged is gone"
    assert [(line["step"], line["total"], line["values"]["samples"]) for line in lines[-3:]] == [
        (1, 3, 2),
        (2, 3, 4),
        (3, 3, 5),
    ]


def test_the_widths_of_a_config_are_told() -> None:
    given = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 6, "head_dim": 16}
    found = quantize.widths_of(given | {"model_type": "qwen3", "num_key_value_heads": 2})
    assert found.heads == ("heads", 96) and found.kv == ("num_key_value_heads x head_dim", 32)
    assert (found.hidden, found.ffn) == (("hidden_size", 64), ("intermediate_size", 96))
    assert found.head_dim == ("head_dim", 16)
    mixed = {"model_type": "qwen3_moe", "num_key_value_heads": 2, "num_experts": 4, "moe_intermediate_size": 12}
    assert quantize.widths_of(given | mixed).ffn == ("moe_intermediate_size", 12)


def test_distillation_counts_on_after_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five samples in batches of two are three steps; the teacher is the model as it was."""
    teacher = SimpleNamespace()
    monkeypatch.setattr(hf, "load_model", lambda folder, dtype: (teacher, folder, dtype))
    monkeypatch.setattr(qad, "train", lambda *given: given)
    config = QuantizeConfig.model_validate(
        {"format": "fp8", "calibration_samples": 5, "batch": 2, "seq_length": 8, "qad": SETTINGS}
    )
    student: Any = SimpleNamespace()
    *_, log = found = quantize._distill(student, tmp_path, tmp_path, tmp_path, config, Metrics(tmp_path))
    assert found[:2] == (student, (teacher, tmp_path, torch.bfloat16))
    log(1, val_kl=0.5)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (line["step"], line["total"], line["values"]) == (4, 3 + SETTINGS["steps"], {"val_kl": 0.5})
    plain = config.model_copy(update={"qad": None})
    assert quantize._distill(student, tmp_path, tmp_path, tmp_path, plain, Metrics(tmp_path)) is None
