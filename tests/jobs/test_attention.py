"""The layers that models are built of: what each token sees, and the names of Transformer Engine's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import attention, model, weights
from jobs.megatron.device import machine
from jobs.megatron.model import build, config_of_shape


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("width", [8, 24])
@pytest.mark.parametrize("later", [0, 5])
@pytest.mark.parametrize("window", [None, 1, 4, 12])
def test_a_token_sees_what_is_before_it_and_in_its_window(
    width: int, later: int, window: int | None, cap: float | None
) -> None:
    """Queries may be the last tokens of a longer sequence, as under context parallelism; heads share groups of keys."""
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(12, 2, heads, width, generator=generator) for heads in (4, 2, 2))
    query = query[later:]
    got = attention.FusedAttention._causal(
        SimpleNamespace(softmax_scale=0.3, window=window, cap=cap),  # type: ignore[arg-type]
        query,
        key,
        value,
    )
    keys, values = (tensor.repeat_interleave(2, dim=2).double() for tensor in (key, value))
    scores = 0.3 * torch.einsum("qbhw,kbhw->bhqk", query.double(), keys)
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    distance = torch.arange(later, 12)[:, None] - torch.arange(12)[None, :]
    hidden = (distance < 0) | (distance >= (window or 12))
    expected = torch.einsum("bhqk,kbhw->qbhw", scores.masked_fill(hidden, -torch.inf).softmax(-1), values)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def test_transformer_engine_weights_load_and_save_by_name(tmp_path: Path) -> None:
    """Transformer Engine cannot run here, so a local layer's norms are hung where Megatron's own table says that it
    keeps them."""
    from megatron.core.post_training.modelopt.gpt.state_dict_hooks import mcore_gpt_load_te_state_dict_pre_hook

    shape = Shape(
        architecture="qwen3",
        num_layers=2,
        hidden_size=16,
        ffn_hidden_size=24,
        num_attention_heads=2,
        num_query_groups=1,
    )
    config = config_of_shape(shape, vocab_size=32, eos_token_id=0)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    fused = {"self_attention.linear_qkv": "input_layernorm", "mlp.linear_fc1": "pre_mlp_layernorm"}
    table: dict[str, Any] = {f"{linear}.layer_norm_weight": norm for linear, norm in fused.items()}
    mcore_gpt_load_te_state_dict_pre_hook(table, "", {}, True, [], [], [])
    assert table == {f"{norm}.weight": norm for norm in fused.values()}
    with machine(Parallel(), seed=1) as device:
        local, other = (build(config, Parallel(), "fp32", device) for _ in range(2))
        weights.initialize(local, config, seed=1)
        for number, layer in enumerate(local.decoder.layers):
            torch.nn.init.constant_(layer.input_layernorm.weight, 2.0 + number)
            torch.nn.init.constant_(layer.pre_mlp_layernorm.weight, 4.0 + number)
        weights.save(local, tmp_path / "local", config, tmp_path / "words", torch.float32)
        for layer in other.decoder.layers:
            for linear, norm in fused.items():
                layer.get_submodule(linear).register_parameter("layer_norm_weight", getattr(layer, norm).weight)
                delattr(layer, norm)
        weights.load(other, tmp_path / "local", config)
        weights.save(other, tmp_path / "fused", config, tmp_path / "words", torch.float32)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("local", "fused"))
    assert float(two["model.layers.1.post_attention_layernorm.weight"][0]) == 5.0
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_slices_are_marked_as_megatron_marks_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient norms of tensor-parallel ranks count a weight by this mark; ours are neither drawn by Megatron nor
    marked by it."""
    shape = Shape(
        architecture="qwen3",
        num_layers=2,
        hidden_size=16,
        ffn_hidden_size=24,
        num_attention_heads=2,
        num_query_groups=1,
    )
    config = config_of_shape(shape.model_copy(update={"tie_word_embeddings": False}), vocab_size=32, eos_token_id=0)

    def marks() -> dict[str, tuple[Any, ...]]:
        names = ("tensor_model_parallel", "partition_dim")
        with machine(Parallel(), seed=1) as device:
            weights = build(config, Parallel(), "fp32", device).named_parameters()
            return {name: tuple(getattr(weight, mark, None) for mark in names) for name, weight in weights}

    ours, transformer = marks(), model._transformer
    monkeypatch.setattr(model, "mark_slices", lambda _: None)
    monkeypatch.setattr(
        model,
        "_transformer",
        lambda *given, **named: replace(transformer(*given, **named), perform_initialization=True),
    )
    assert ours == marks()
    assert ours["embedding.word_embeddings.weight"] == (True, 0)
    assert ours["decoder.layers.0.self_attention.linear_proj.weight"] == (True, 1)
    assert sum(mark[0] is True for mark in ours.values()) == 2 + 2 * 4, "both embeddings, and four matrices a layer"
