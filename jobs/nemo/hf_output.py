"""Turns the Hugging Face directory from NeMo's exporter into one of ours: sizes checked, tokenizer and settings from
its origin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from conf.hf_config import head_dim, rope_in_both_forms
from conf.hf_model import CODE, PICKLES, check_model_directory
from conf.nemo.settings import NemoPrune

SIZES = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_attention_heads": "num_attention_heads",
}
"""Hugging Face's name of a size, and the prune stage's."""

KEPT = ("num_key_value_heads", "vocab_size", "tie_word_embeddings")
WEIGHTS = (".safetensors", ".index.json")


def publish(exported: Path, origin: Path, model: Path, pruning: NemoPrune | None) -> None:
    """Publish `exported` as `model`: weights from NeMo, config and tokenizer from the Hugging Face directory `origin`,
    with the sizes set by `pruning`. Raises RuntimeError where NeMo's sizes differ."""
    exported_config, config = (json.loads((folder / "config.json").read_text()) for folder in (exported, origin))
    expected = _expected_config(config, pruning)
    for key in (*SIZES, *KEPT):
        if exported_config.get(key, expected.get(key)) != expected.get(key):
            raise RuntimeError(f"NeMo exported {key} {exported_config[key]} instead of {expected.get(key)}")
    partial = model.with_name(".model")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in sorted(exported.iterdir()):
        if path.name.endswith(WEIGHTS):
            shutil.copy2(path, partial / path.name)
    for path in sorted(origin.iterdir()):
        if (
            path.is_file()
            and path.name != "config.json"
            and not path.name.endswith(WEIGHTS)
            and path.suffix not in (*CODE, *PICKLES)
        ):
            shutil.copy2(path, partial / path.name)
    dtype = {key: exported_config[key] for key in ("dtype", "torch_dtype") if key in exported_config}
    settings = {key: value for key, value in expected.items() if key not in ("dtype", "torch_dtype")} | dtype
    (partial / "config.json").write_text(json.dumps(rope_in_both_forms(settings), indent=2) + "\n")
    check_model_directory(partial)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)


def _expected_config(config: dict[str, Any], pruning: NemoPrune | None) -> dict[str, Any]:
    """The origin's config with the sizes of `pruning`; the width of a head is unchanged."""
    if pruning is None:
        return config
    sizes = {key: pruning.ranked[axis] for key, axis in SIZES.items() if axis in pruning.ranked}
    if pruning.drop_layers:
        sizes["num_hidden_layers"] = config["num_hidden_layers"] - len(pruning.drop_layers)
    expected = config | sizes | {"head_dim": head_dim(config)}
    if expected.get("layer_types"):
        expected["layer_types"] = expected["layer_types"][: expected["num_hidden_layers"]]
    return expected
