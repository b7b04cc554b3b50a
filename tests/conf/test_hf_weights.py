"""What a checkpoint must hold beside what its config.json needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from conf import hf_weights
from conf.hf_model import shape_of
from conf.hf_weights import HEAD, Stored, check_weights, needed, precision_of, read_headers
from conf.load import load
from conf.shape import Shape
from tests.conf.test_hf_model import TINY, lose_weights, model, pretrained  # noqa: F401 - a fixture
from tests.fixtures.flow import told
from tests.fixtures.model import safetensors


def tied(model: Path, head: bytes) -> None:
    """Write the model as one file with an output layer of its own, whose first bytes are `head`."""
    tensors = needed(shape_of(model))
    lose_weights(model)
    content = safetensors(
        {"lm_head.weight": (300, 32)} | tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": (4,)}
    )
    start = content.index(b"}}") + 2
    (model / "model.safetensors").write_bytes(content[:start] + head + content[start + len(head) :])


def test_an_output_layer_beside_a_tied_embedding_is_its_copy(model: Path) -> None:
    tied(model, b"\0\0")
    load(TINY, pretrained(model))
    tied(model, b"\0\1")
    sentence = told(*pretrained(model))
    assert "tie_word_embeddings but stores a lm_head.weight that differs from model.embed_tokens.weight" in sentence
    assert "set tie_word_embeddings to false in config.json, or remove lm_head.weight" in sentence


# heads of 6, four of them in two groups, beside a hidden size of 40
SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 40, "ffn_hidden_size": 56, "num_attention_heads": 4}
SIZES |= {"num_query_groups": 2, "head_dim": 6, "vocab_size": 300, "tie_word_embeddings": False}
ATTENTION = {"q_proj.weight": (24, 40), "k_proj.weight": (12, 40), "v_proj.weight": (12, 40), "o_proj.weight": (40, 24)}
BIASES = {"q_proj.bias": (24,), "k_proj.bias": (12,), "v_proj.bias": (12,)}
MLP = {"mlp.gate_proj.weight": (56, 40), "mlp.up_proj.weight": (56, 40), "mlp.down_proj.weight": (40, 56)}
NORMS = {"input_layernorm.weight": (40,), "post_attention_layernorm.weight": (40,)}
AROUND = {"pre_feedforward_layernorm.weight": (40,), "post_feedforward_layernorm.weight": (40,)}
HEADS = {"q_norm.weight": (6,), "k_norm.weight": (6,)}
EXPERTS = {"num_experts": 3, "experts_per_token": 2}


def attention(*tensors: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"self_attn.{name}": size for each in tensors for name, size in each.items()}


def mixed(module: str, gate: str, up: str, down: str) -> dict[str, tuple[int, ...]]:
    sizes = {gate: (56, 40), up: (56, 40), down: (40, 56)}
    experts = {f"{module}.experts.{number}.{name}.weight": sizes[name] for number in range(3) for name in sizes}
    return {f"{module}.gate.weight": (3, 40)} | experts


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ({"architecture": "llama"}, NORMS | attention(ATTENTION) | MLP),
        ({"architecture": "qwen2"}, NORMS | attention(ATTENTION, BIASES) | MLP),
        ({"architecture": "gemma3_text"}, NORMS | AROUND | attention(ATTENTION, HEADS) | MLP),
        (
            {"architecture": "phi3", "head_dim": 10},
            NORMS
            | attention({"qkv_proj.weight": (40 + 20 + 20, 40), "o_proj.weight": (40, 40)})
            | {"mlp.gate_up_proj.weight": (56 + 56, 40), "mlp.down_proj.weight": (40, 56)},
        ),
        (
            {"architecture": "qwen3_moe"} | EXPERTS,
            NORMS | attention(ATTENTION, HEADS) | mixed("mlp", "gate_proj", "up_proj", "down_proj"),
        ),
        (
            {"architecture": "mixtral"} | EXPERTS,
            NORMS | attention(ATTENTION) | mixed("block_sparse_moe", "w1", "w3", "w2"),
        ),
    ],
)
def test_the_tensors_of_a_family(family: dict[str, Any], layer: dict[str, tuple[int, ...]]) -> None:
    expected: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (300, 40), "model.norm.weight": (40,)}
    expected |= {f"model.layers.{number}.{name}": size for number in range(2) for name, size in layer.items()}
    shape = Shape.model_validate(SIZES | family)
    assert needed(shape) == expected | {"lm_head.weight": (300, 40)}
    assert needed(shape.model_copy(update={"tie_word_embeddings": True})) == expected


def stored(**tensors: str) -> dict[str, Stored]:
    """Tensors of these types."""
    return {
        name: Stored(file=Path("m.safetensors"), dtype=dtype, shape=(2,), start=0, end=4)
        for name, dtype in tensors.items()
    }


@pytest.mark.parametrize(
    ("types", "precision"),
    [(["BF16", "BF16"], "bf16"), (["F16"], "fp16"), (["F32"], "fp32"), (["BF16", "F16"], "fp32")],
)
def test_a_precision_holds_all_tensors(types: list[str], precision: str) -> None:
    tensors = stored(**{f"t{number}": dtype for number, dtype in enumerate(types)})
    assert precision_of(tensors | stored(**{"model.layers.0.self_attn.rotary_emb.inv_freq": "F64"})) == precision


def test_a_header_says_where_tensors_are(tmp_path: Path) -> None:
    content = safetensors({"a": (2, 3), "b": (4,)})
    (tmp_path / "m.safetensors").write_bytes(content)
    found = read_headers(tmp_path, {"m.safetensors": []})
    start = len(content) - 2 * (6 + 4)
    assert {name: (each.shape, each.start, each.end) for name, each in found.items()} == {
        "a": ((2, 3), start, start + 12),
        "b": ((4,), start + 12, start + 20),
    }


def test_an_index_and_its_shards_agree(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_bytes(safetensors({"a": (2,), name: (2,)}))
    with pytest.raises(ValueError, match="one lacks tensor b of its index"):
        read_headers(tmp_path, {"one": ["a", "b"]})
    with pytest.raises(ValueError, match="holds a in one and in other; download the model again"):
        read_headers(tmp_path, {"one": ["a"], "other": ["other"]})


@pytest.mark.parametrize(("at", "equal"), [(None, True), (0, False), (5, False), (9, False)])
def test_two_copies_are_compared_to_their_last_byte(
    at: int | None, equal: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ten bytes, four at a time, among others that differ."""
    monkeypatch.setattr(hf_weights, "COMPARED", 4)
    ours = bytes(range(10))
    theirs = bytes(each ^ (number == at) for number, each in enumerate(ours))
    (tmp_path / "one").write_bytes(b"xy" + ours + b"?")
    (tmp_path / "other").write_bytes(b"xyz" + theirs + b"!")
    one, other = (
        Stored(file=tmp_path / name, dtype="BF16", shape=(5,), start=start, end=start + 10)
        for name, start in (("one", 2), ("other", 3))
    )
    assert hf_weights._equal(one, other) is equal
    halves = Stored(file=tmp_path / "other", dtype="F16", shape=(5,), start=3, end=13)
    assert not hf_weights._equal(one, halves), "other types"


def test_the_first_missing_tensor_is_told(tmp_path: Path) -> None:
    shape = Shape.model_validate(SIZES)
    lacking = {
        name: Stored(file=tmp_path, dtype="BF16", shape=size, start=0, end=0) for name, size in needed(shape).items()
    }
    check_weights(tmp_path, lacking, shape)
    for name, hint in ((HEAD, " or set tie_word_embeddings, if it shares its embedding"), ("model.norm.weight", "")):
        with pytest.raises(ValueError) as caught:
            check_weights(tmp_path, {each: size for each, size in lacking.items() if each != name}, shape)
        needs = f"{tmp_path} has no tensor {name}, which its config.json needs; download the model again{hint}"
        assert str(caught.value) == needs


@pytest.mark.parametrize(
    ("names", "more"), [(["a"], ""), (["a", "b"], " (and 1 more)"), (["c", "a", "b"], " (and 2 more)")]
)
def test_tensors_without_a_place_are_counted(names: list[str], more: str, tmp_path: Path) -> None:
    shape = Shape.model_validate(SIZES)
    whole = {
        name: Stored(file=tmp_path, dtype="BF16", shape=size, start=0, end=0) for name, size in needed(shape).items()
    }
    left = {name: Stored(file=tmp_path, dtype="BF16", shape=(2,), start=0, end=0) for name in names}
    with pytest.raises(ValueError) as caught:
        check_weights(tmp_path, whole | left, shape)
    assert f"holds the tensor a{more}, which its config.json gives no place" in str(caught.value)


def test_a_tensor_of_another_shape_or_type_is_told(tmp_path: Path) -> None:
    shape = Shape.model_validate(SIZES)
    for change, words in (
        ({"shape": (41,)}, "is (41,) where config.json needs (40,)"),
        ({"dtype": "I8"}, "stored as I8"),
    ):
        tensors = {
            name: Stored(file=tmp_path, dtype="F16", shape=size, start=0, end=0) for name, size in needed(shape).items()
        }
        tensors["model.norm.weight"] = dataclasses.replace(tensors["model.norm.weight"], **change)
        with pytest.raises(ValueError) as caught:
            check_weights(tmp_path, tensors, shape)
        assert words in str(caught.value)
