"""What NeMo exported becomes a model directory of ours: its weights, everything else from the origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.nemo.settings import NemoPrune
from jobs.nemo.hf_output import publish
from tests.fixtures.model import write_model


def told(model: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((model / "config.json").read_text())
    return content


def test_weights_are_nemos_and_all_else_is_the_origins(tmp_path: Path) -> None:
    origin = write_model(tmp_path / "origin", dtype="float32", rope_theta=5e5)
    exported = write_model(tmp_path / "exported", torch_dtype="bfloat16")
    (exported / "tokenizer.json").write_text("NeMo's")
    (exported / "model-00001-of-00002.safetensors").touch()  # as it was; only its time is new
    for name in ("generation_config.json", "model.bin", "model-00009-of-00009.safetensors"):
        (origin / name).write_text("{}")
    (origin / "original").mkdir()
    model = tmp_path / "model"
    model.mkdir()
    (model / "of an earlier attempt").touch()
    publish(exported, origin, model, None)
    names = {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors.index.json"}
    shards = {f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    assert {path.name for path in model.iterdir()} == names | shards
    assert (model / "tokenizer.json").read_bytes() == (origin / "tokenizer.json").read_bytes()
    config = told(model)
    assert (config["torch_dtype"], config["rope_theta"]) == ("bfloat16", 5e5) and "dtype" not in config
    assert not (tmp_path / ".model").exists()


@pytest.mark.parametrize(
    ("pruning", "sizes"),
    [
        ({"drop_layers": [2]}, {"num_hidden_layers": 2}),
        ({"num_layers": 1}, {"num_hidden_layers": 1}),
        ({"ffn_hidden_size": 64, "hidden_size": 24}, {"hidden_size": 24, "intermediate_size": 64}),
        ({"num_attention_heads": 2}, {"num_attention_heads": 2}),
    ],
)
def test_a_pruned_model_has_the_sizes_asked_for(pruning: dict[str, Any], sizes: dict[str, int], tmp_path: Path) -> None:
    """Heads keep their width."""
    kinds = ["full_attention"] * 3
    origin = write_model(tmp_path / "origin", layer_types=kinds)
    exported = write_model(tmp_path / "exported", head_dim=8, **sizes)
    importance = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4}
    asked = pruning if "drop_layers" in pruning else pruning | {"importance": importance}
    publish(exported, origin, tmp_path / "model", NemoPrune.model_validate(asked))
    config = told(tmp_path / "model")
    assert {name: config[name] for name in sizes} == sizes and config["head_dim"] == 8
    assert config["layer_types"] == kinds[: sizes.get("num_hidden_layers", 3)]
    name, size = next(iter(sizes.items()))
    with pytest.raises(RuntimeError, match=rf"NeMo exported {name} \d+ instead of {size}"):
        publish(origin, origin, tmp_path / "model", NemoPrune.model_validate(asked))
    assert told(tmp_path / "model") == config, "what was there is left"


def test_a_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    origin = write_model(tmp_path / "origin")
    exported = write_model(tmp_path / "exported", vocab_size=320)
    with pytest.raises(RuntimeError, match="NeMo exported vocab_size 320 instead of 300"):
        publish(exported, origin, tmp_path / "model", None)
