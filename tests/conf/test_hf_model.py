"""A local teacher's directory, read before anything runs: whole, of a known kind, with the tokenizer that belongs to
it."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conf.hf_model import num_tokens, shape_of
from conf.load import load
from conf.shape import num_params
from tests.fixtures.flow import RECIPE, command, told
from tests.fixtures.model import write_model

TINY = str(RECIPE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def pretrained(model: Path) -> list[str]:
    return ["teacher.shape=null", f"teacher.model={model}", "teacher.steps=0"]


def rewrite(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def header(model: Path, content: bytes) -> None:
    first_shard(model).write_bytes(struct.pack("<Q", len(content)) + content)


def first_shard(model: Path) -> Path:
    return model / "model-00001-of-00002.safetensors"


def lose_weights(model: Path, *left: str) -> None:
    for file in model.glob("*safetensors*"):
        file.unlink()
    for name in left:
        (model / name).write_bytes(b"x")


DAMAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no config": (
        lambda model: (model / "config.json").unlink(),
        ("no config.json", "use a Hugging Face model directory"),
    ),
    "config cut short": (
        lambda model: (model / "config.json").write_text('{"a": '),
        ("config.json is not valid JSON", "download it again"),
    ),
    "config no object": (
        lambda model: (model / "config.json").write_text("[1]"),
        ("config.json contains a list instead of a JSON object", "download it again"),
    ),
    "config of bytes": (
        lambda model: (model / "config.json").write_bytes(b"\xff"),
        ("config.json is not valid JSON", "download it again"),
    ),
    "other architecture": (
        lambda model: rewrite(model / "config.json", model_type="gpt2"),
        ("model_type 'gpt2', nearest to Llama but for: learned positions", "choose a Llama, Qwen2,"),
    ),
    "no architecture": (
        lambda model: rewrite(model / "config.json", model_type=None),
        ("model_type None; choose a Llama, Qwen2,",),
    ),
    "dimension missing": (
        lambda model: (model / "config.json").write_text('{"model_type": "llama"}'),
        ("num_hidden_layers", "choose such a model"),
    ),
    "dimension that is no number": (
        lambda model: rewrite(model / "config.json", hidden_size="wide"),
        ("hidden_size", "choose such a model"),
    ),
    "own code": (
        lambda model: (model / "modeling.py").touch(),
        ("modeling.py", "never run", "choose a model without code"),
    ),
    "auto_map": (lambda model: rewrite(model / "config.json", auto_map={}), ("auto_map in config.json", "never run")),
    "quantized": (
        lambda model: rewrite(model / "config.json", quantization_config={}),
        ("is quantized", "use the unquantized model"),
    ),
    "no tokenizer": (
        lambda model: (model / "tokenizer.json").unlink(),
        ("no tokenizer.json", "add the model's fast tokenizer"),
    ),
    "tokenizer cut short": (
        lambda model: (model / "tokenizer.json").write_text("{"),
        ("tokenizer.json is not valid JSON",),
    ),
    "tokenizer without vocabulary": (
        lambda model: (model / "tokenizer.json").write_text("{}"),
        ("has no vocabulary", "download"),
    ),
    "tokenizer of another model": (
        lambda model: rewrite(model / "tokenizer.json", added_tokens=[{"id": 300, "content": "<more>"}]),
        ("has 300 embedding rows", "tokenizer.json has 301", "download the model again"),
    ),
    "rotary kind": (
        lambda model: rewrite(model / "config.json", rope_scaling={"type": "spiral", "factor": 4.0}),
        ("config.json scales its rotary embedding by 'spiral'", "supported for Llama are default, linear"),
    ),
    "rotary values missing": (
        lambda model: rewrite(model / "config.json", rope_scaling={"rope_type": "llama3", "factor": 4.0}),
        ("by 'llama3' without low_freq_factor", "add it"),
    ),
    "rotary bounds crossed": (
        lambda model: rewrite(
            model / "config.json",
            rope_scaling={"rope_type": "llama3", "factor": 4, "low_freq_factor": 4, "high_freq_factor": 4},
        ),
        ("high_freq_factor 4, which is not above low_freq_factor 4",),
    ),
    "rotary base": (lambda model: rewrite(model / "config.json", rope_theta=-1), ("rope_theta -1", "above 0")),
    "rotary share": (
        lambda model: rewrite(model / "config.json", partial_rotary_factor=0.5),
        ("partial_rotary_factor 0.5", "whole heads"),
    ),
    "biases": (lambda model: rewrite(model / "config.json", attention_bias=True), ("sets attention_bias",)),
    "activation": (lambda model: rewrite(model / "config.json", hidden_act="gelu"), ("hidden_act gelu", "silu")),
    "sliding window": (
        lambda model: rewrite(model / "config.json", layer_types=["full_attention", "sliding_attention"]),
        ("has layers with sliding_attention", "choose a model with full attention"),
    ),
    "another class": (
        lambda model: rewrite(model / "config.json", architectures=["LlamaForSequenceClassification"]),
        ("architecture LlamaForSequenceClassification", "supported are LlamaForCausalLM"),
    ),
    "heads beside the width": (
        lambda model: rewrite(model / "config.json", num_attention_heads=5, num_key_value_heads=5, head_dim=8),
        ("hidden_size 32 is not a multiple of num_attention_heads 5",),
    ),
    "tensor missing": (
        lambda model: rewrite(model / "config.json", num_hidden_layers=4),
        ("has no tensor model.layers.3.", "(and 8 more), which its config.json needs"),
    ),
    "tensor left over": (
        lambda model: rewrite(model / "config.json", num_hidden_layers=2),
        ("holds the tensor model.layers.2.", "(and 8 more), which its config.json gives no place"),
    ),
    "output layer missing": (
        lambda model: rewrite(model / "config.json", tie_word_embeddings=False),
        ("has no tensor lm_head.weight", "or set tie_word_embeddings"),
    ),
    "tensor of another shape": (
        lambda model: rewrite(model / "config.json", intermediate_size=64),
        ("is (96, 32) where config.json needs (64, 32)",),
    ),
    "packed numbers": (
        lambda model: first_shard(model).write_bytes(first_shard(model).read_bytes().replace(b"BF16", b"I16 ")),
        ("is stored as I16", "use the model in BF16, F16, F32"),
    ),
    "two sets of weights": (
        lambda model: shutil.copy(first_shard(model), model / "model.safetensors"),
        ("both model.safetensors and model.safetensors.index.json", "remove the one"),
    ),
    "no weights": (
        lose_weights,
        ("has no weights (model.safetensors or model.safetensors.index.json)", "download the model again"),
    ),
    "pickled weights": (
        lambda model: lose_weights(model, "pytorch_model.bin"),
        ("only pickled weights (pytorch_model.bin)", "never loaded", "convert them to safetensors"),
    ),
    "shard missing": (
        lambda model: first_shard(model).unlink(),
        ("lacks the shard model-00001-of-00002.safetensors", "download"),
    ),
    "shard cut short": (
        lambda model: first_shard(model).write_bytes(first_shard(model).read_bytes()[:-1]),
        ("bytes but its header requires", "download the model again"),
    ),
    "shard with more than it should": (
        lambda model: first_shard(model).write_bytes(first_shard(model).read_bytes() + b"\0"),
        ("bytes but its header requires",),
    ),
    "shard empty": (
        lambda model: first_shard(model).write_bytes(b""),
        ("is not a safetensors file", "download the model again"),
    ),
    "shard of text": (
        lambda model: first_shard(model).write_text("not found: 404"),
        ("bytes but its header requires", "download"),
    ),
    "shard header no JSON": (
        lambda model: header(model, b"{]" * 9),
        ("is not a safetensors file", "download the model again"),
    ),
    "shard header a list": (
        lambda model: header(model, b"[1, 2]"),
        ("is not a safetensors file", "download the model again"),
    ),
    "shard header without offsets": (
        lambda model: header(model, b'{"a": {"data_offsets": []}}'),
        ("is not a safetensors file", "download"),
    ),
    "index no JSON": (
        lambda model: (model / "model.safetensors.index.json").write_text("{"),
        ("index.json is not valid JSON", "download"),
    ),
    "index without shards": (
        lambda model: (model / "model.safetensors.index.json").write_text("{}"),
        ("lists no tensors", "download"),
    ),
    "index empty": (
        lambda model: rewrite(model / "model.safetensors.index.json", weight_map={}),
        ("lists no tensors", "download"),
    ),
    "index leads outside": (
        lambda model: rewrite(model / "model.safetensors.index.json", weight_map={"a": "../x.safetensors"}),
        ("lists the shard ../x.safetensors outside its folder", "download"),
    ),
    "index of numbers": (
        lambda model: rewrite(model / "model.safetensors.index.json", weight_map={"a": 1}),
        ("lists the shard 1 outside its folder",),
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_broken_model_directory_is_told_by_name(case: str, model: Path) -> None:
    damage, parts = DAMAGES[case]
    load(TINY, pretrained(model))
    damage(model)
    sentence = told(*pretrained(model))
    assert all(part in sentence for part in (str(model), *parts)), sentence


def test_absent_fields_have_the_same_meaning_in_plan_and_job(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    for name in ("num_key_value_heads", "max_position_embeddings", "tie_word_embeddings"):
        del config[name]
    (model / "config.json").write_text(json.dumps(config))
    shape = shape_of(model)
    assert (shape.num_query_groups, shape.max_position_embeddings, shape.tie_word_embeddings) == (4, 2048, False)


def test_ranks_that_do_not_divide_an_import_are_refused(model: Path) -> None:
    sentence = told(*pretrained(model), "teacher.parallel={processes: 3, tensor: 3}")
    assert "teacher.parallel.tensor is 3, which does not divide num_attention_heads 4; choose a divisor" in sentence


@pytest.mark.parametrize(
    ("special", "pad", "passes"), [(True, "<pad>", True), (False, "<pad>", False), (True, "<end>", False)]
)
def test_only_a_padding_token_needs_no_row(model: Path, special: bool, pad: str, passes: bool) -> None:
    content = json.loads((model / "tokenizer.json").read_text())
    content["added_tokens"].append({"id": 300, "content": "<pad>", "special": special})
    (model / "tokenizer.json").write_text(json.dumps(content))
    (model / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad, "eos_token": "<end>"}))
    if passes:
        load(TINY, pretrained(model))
    else:
        assert "has 300 embedding rows but its tokenizer.json has 301 tokens" in told(*pretrained(model))


def test_missing_shard_is_reported_without_creating_a_store(model: Path, tmp_path: Path) -> None:
    first_shard(model).unlink()
    for verb in ("run", "plan"):
        done = command(verb, TINY, *pretrained(model), store=tmp_path / "store")
        assert done.returncode == 2
        assert done.stderr.startswith(f"imbik: teacher.model {model} lacks the shard")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()


def test_a_pretrained_teacher_keeps_its_own_tokenizer(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    load(TINY, [*pretrained(model), f"data.tokenizer={other}"])
    rewrite(other / "tokenizer.json", normalizer={"type": "Lowercase"})
    sentence = told(*pretrained(model), f"data.tokenizer={other}")
    assert (
        f"data.tokenizer {other} is not the tokenizer of teacher.model {model}; leave data.tokenizer empty" in sentence
    )
    assert "has 300 tokens" in told(f"data.tokenizer={other}", "teacher.shape.vocab_size=299")


def test_dimensions_and_tokens_of_a_real_model(shared_data: Path) -> None:
    stories = shared_data / "weights" / "stories260K-hf"
    assert num_params(shape_of(stories)) == 260_032
    assert num_tokens(stories) == shape_of(stories).vocab_size == 512
    assert num_tokens(shared_data / "tokenizers" / "llama3-hf") == 128_256
