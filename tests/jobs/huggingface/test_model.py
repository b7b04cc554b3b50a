"""Opening model directories: what is sound loads exactly, and everything else is refused in one sentence."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from conf import hf_model
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from tests.fixtures.families import random_model

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny Llama in two shards, with its tokenizer."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=300, max_position_embeddings=64, tie_word_embeddings=False, **SIZES)
    )
    path = tmp_path / "model"
    model.save_pretrained(path, max_shard_size="60KB")
    tokenizer.train(iter(["one two three"] * 4), 300, path)
    return path


def test_loads_the_same_weights_as_transformers(directory: Path) -> None:
    assert len(hf.shards(directory)) > 1
    tokens = torch.arange(20)[None]
    for dtype in (torch.float32, torch.bfloat16):
        ours, theirs = hf.load_model(directory, dtype), AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
        assert torch.equal(ours(tokens).logits, theirs(tokens).logits)
        assert ours.dtype == dtype
        assert not ours.training and not any(weight.requires_grad for weight in ours.parameters())


def test_tied_embedding_of_a_real_model_counts_once(shared_data: Path) -> None:
    stories = shared_data / "weights" / "stories260K-hf"
    model = hf.load_model(stories, torch.float32)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert hf.num_params(model) == 260_032
    assert hf.weight_bytes(stories) == (stories / "model.safetensors").stat().st_size
    text = "Once upon a time, Lily's dog said: hello!"
    expected = tokenizer.load(stories).encode(text, add_special_tokens=False).ids
    assert hf.load_tokenizer(stories).encode(text, add_special_tokens=False) == expected


def last_shard(directory: Path) -> Path:
    return sorted(directory.glob("*.safetensors"))[-1]


def edit(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite the last shard and keep the index in step."""
    path = last_shard(directory)
    tensors = load_file(path)
    before = set(tensors)
    change(tensors)
    save_file(tensors, path)
    index = json.loads((directory / hf_model.INDEX).read_text())
    for name in before ^ set(tensors):
        if name in tensors:
            index["weight_map"][name] = path.name
        else:
            del index["weight_map"][name]
    (directory / hf_model.INDEX).write_text(json.dumps(index))


def set_config(directory: Path, **values: object) -> None:
    config = json.loads((directory / "config.json").read_text()) | values
    (directory / "config.json").write_text(json.dumps(config))


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), "no config.json"),
    "config cut short": (lambda path: (path / "config.json").write_text('{"a": '), "not valid JSON"),
    "config not an object": (lambda path: (path / "config.json").write_text("[1]"), "JSON object"),
    "own code": (lambda path: (path / "modeling_x.py").write_text("raise SystemExit"), "contains code"),
    "auto_map": (lambda path: set_config(path, auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "tokenizer auto_map": (lambda path: (path / "tokenizer_config.json").write_text('{"auto_map": {}}'), "auto_map"),
    "unknown architecture": (lambda path: set_config(path, model_type="no-such-model"), "no-such-model"),
    "not a language model": (lambda path: set_config(path, model_type="vit"), "vit"),
    "shard missing": (lambda path: last_shard(path).unlink(), "lacks the shard"),
    "shard cut short": (lambda path: last_shard(path).write_bytes(last_shard(path).read_bytes()[:-100]), "damaged"),
    "empty index": (lambda path: (path / hf_model.INDEX).write_text("{}"), "lists no tensors"),
    "index leads outside": (
        lambda path: (path / hf_model.INDEX).write_text('{"weight_map": {"a": "../x.safetensors"}}'),
        "outside its folder",
    ),
    "tensor missing": (lambda path: edit(path, lambda tensors: tensors.pop(min(tensors))), "lacks tensor"),
    "tensor unknown": (
        lambda path: edit(path, lambda tensors: tensors.update(extra=torch.ones(1))),
        "unknown tensor extra",
    ),
    "wrong shape": (lambda path: set_config(path, intermediate_size=64), "where config.json needs"),
    "two output layers": (
        lambda path: (
            set_config(path, tie_word_embeddings=True),
            edit(path, lambda tensors: tensors.update({"lm_head.weight": torch.ones(300, 32)})),
        ),
        "tie_word_embeddings but stores a lm_head.weight that differs",
    ),
    "refused by transformers": (
        lambda path: set_config(path, num_attention_heads=5, head_dim=8),
        "config.json is refused by transformers .* not a multiple",
    ),
    "already quantized": (lambda path: set_config(path, quantization_config={"quant_method": "gptq"}), "is quantized"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_directory_is_refused(directory: Path, name: str) -> None:
    damage, sentence = BREAKAGES[name]
    damage(directory)
    with pytest.raises(ValueError, match=sentence):
        hf.load_model(directory, torch.float32)


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_never_opened(directory: Path, tmp_path: Path) -> None:
    for path in directory.glob("*.safetensors*"):
        path.unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"only pickled weights \(pytorch_model\.bin\), which are never loaded"):
        hf.load_model(directory, torch.float32)
    assert not (tmp_path / "ran").exists()


def test_tokens_of_another_tokenizer_are_refused(directory: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "statistics.json").write_text(json.dumps({"tokenizer_fingerprint": tokenizer.fingerprint(directory)}))
    hf.check_tokens(directory, data)
    other = shutil.copytree(directory, tmp_path / "other")
    tokenizer.train(iter(["four five six seven"] * 4), 300, other)
    with pytest.raises(ValueError, match="tokenize the corpus with the model's tokenizer"):
        hf.check_tokens(other, data)


@pytest.mark.parametrize(("pad", "kept"), [(299, 299), (300, None), (None, None), (0, 0)])
def test_padding_without_a_row_is_left_out(pad: int | None, kept: int | None, directory: Path) -> None:
    set_config(directory, pad_token_id=pad)
    config, _ = hf.described(directory, hf.check(directory))
    assert config.pad_token_id == kept


@pytest.mark.parametrize(("length", "fits"), [(64, True), (65, False)])
def test_sequences_fit_the_models_positions(length: int, fits: bool) -> None:
    hf.check_length({}, length)
    if fits:
        hf.check_length({"max_position_embeddings": 64}, length)
        return
    with pytest.raises(ValueError, match="seq_length 65 is above the model's max_position_embeddings 64; choose at"):
        hf.check_length({"max_position_embeddings": 64}, length)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("granite", {"logits_scaling": 4.0}),
        ("gemma2", {"final_logit_softcapping": 2.0}),
        ("gemma2", {"final_logit_softcapping": None}),
    ],
)
def test_logits_of_states_are_the_models_own(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    small = SIZES | {"vocab_size": 40, "num_hidden_layers": 1, "head_dim": 8, "pad_token_id": None} | settings
    model = random_model(family, tmp_path, torch.float32, **small).eval()
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        found = hf.logits(model, model.model(tokens).last_hidden_state)
        torch.testing.assert_close(found, model(tokens).logits)
    assert not settings.get("final_logit_softcapping") or 1 < found.abs().max() <= 2


def test_every_end_that_a_directory_names_stops(directory: Path) -> None:
    ends = hf.stop_ids(directory, hf.load_tokenizer(directory))
    set_config(directory, eos_token_id=7)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [8, 9]}))
    eos = tokenizer.eod_id(directory)
    assert eos in ends
    assert hf.stop_ids(directory, hf.load_tokenizer(directory)) == {7, 8, 9, eos}


@pytest.mark.parametrize("tied", [True, False])
def test_equal_embedding_and_head_may_both_be_stored(tied: bool, directory: Path) -> None:
    """As one weight only where the config ties them; where it does not, a head may differ."""
    set_config(directory, tie_word_embeddings=tied)
    tensors = hf.read_tensors(directory)
    if tied:
        edit_all(directory, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    model = hf.load_model(directory, torch.float32)
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight) is tied


def edit_all(directory: Path, tensors: dict[str, torch.Tensor]) -> None:
    for path in directory.glob("*.safetensors*"):
        path.unlink()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
