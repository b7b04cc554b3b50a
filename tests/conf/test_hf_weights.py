"""What a checkpoint must hold beside what its config.json needs."""

from __future__ import annotations

from pathlib import Path

from conf.hf_model import shape_of
from conf.hf_weights import needed
from conf.load import load
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
