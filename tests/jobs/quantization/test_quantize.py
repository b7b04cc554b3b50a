"""What the quantize stage refuses before it loads a model, and what it writes beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.spec import Spec
from conf.stages.quantize import QuantizeConfig
from jobs import quantize
from jobs.huggingface import model as hf
from jobs.tokens import blend_reader
from tests.jobs.quantization.test_qad import SETTINGS

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
