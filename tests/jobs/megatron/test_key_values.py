"""Merged key-value heads compute what transformers computes of them; nothing changes where nothing may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conf.families import FAMILIES
from jobs.megatron import key_values, weights
from jobs.megatron.key_values import Merge
from jobs.megatron.model import read_config
from jobs.megatron.turns import ANY, Freedom, best_turns
from tests.fixtures.families import megatron_model, random_model

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 6,
    "max_position_embeddings": 64,
    "sliding_window": None,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.7}},
    "smollm3": {"no_rope_layers": [1, 0]},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4},
}
pytestmark = pytest.mark.usefixtures("one_rank")
TOKENS = torch.arange(24)[None] * 7 % 40


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def opened(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A random model of a family in Megatron's form, and its config."""
    if not folder.exists():
        random_model(name, folder, torch.float32, **SIZES | OWN.get(name, {}))
    return megatron_model(folder, for_pruning=True), read_config(folder)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(TOKENS, torch.arange(TOKENS.shape[1])[None], None))


def turned(heads: int, freedom: Freedom, seed: int) -> torch.Tensor:
    """Any turns that a layer can undo."""
    crossed = torch.randn(heads, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return best_turns(crossed, freedom)


def planned(model: Any, config: dict[str, Any], groups: int, **how: Any) -> key_values.Plan:
    return key_values.plan(model, config, groups, how.get("grouping", "similarity"), how.get("merging", "aligned"))


@pytest.mark.parametrize("name", FAMILIES)
def test_turned_and_reordered_heads_compute_the_same(name: str, models: Path) -> None:
    model, config = opened(name, models / name)
    before = logits(model)
    plan = {
        layer.self_attention: Merge(
            layer=layer.layer_number,
            groups=[[2], [0], [3], [1]],
            keys=turned(4, key_values._freedom(config, layer.layer_number), 1),
            values=turned(4, ANY, 2),
            shares=torch.ones(4),
            kept=1.0,
        )
        for layer in model.decoder.layers
    }
    weight = model.decoder.layers[0].self_attention.linear_qkv.weight
    key_values.merge(model, plan)
    assert not torch.allclose(model.decoder.layers[0].self_attention.linear_qkv.weight, weight)
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_that_were_alike_are_merged_for_nothing(name: str, models: Path) -> None:
    """Heads 0 and 2, and 1 and 3, whose keys and values are equal up to a turn."""
    model, config = opened(name, models / name)
    for layer in model.decoder.layers:
        qkv = layer.self_attention.linear_qkv
        turns = [turned(2, freedom, 3) for freedom in (key_values._freedom(config, layer.layer_number), ANY)]
        for tensor in (qkv.weight, qkv.bias):
            if tensor is None:
                continue
            with torch.no_grad():
                packed = tensor.unflatten(0, (4, -1, 6))
                for part, turn in zip((-2, -1), turns, strict=True):
                    moved = torch.einsum("gij,gj...->gi...", turn.float(), packed[:2, part])
                    packed[2:, part] = moved
    before, plan = logits(model), planned(model, config, 2)
    assert all(how.groups == [[0, 2], [1, 3]] and how.kept == pytest.approx(1) for how in plan.values())
    key_values.merge(model, plan)
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_candidate_computes_what_the_merged_model_does(name: str, models: Path) -> None:
    """While it is scored, and no longer."""
    model, config = opened(name, models / name)
    before, plan = logits(model), planned(model, config, 2)
    with key_values.merged_outputs(model, plan):
        scored = logits(model)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    key_values.merge(model, plan)
    merged = logits(model)
    assert not torch.allclose(merged, before, atol=1e-2)
    torch.testing.assert_close(scored, merged, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_saved_computes_the_same_in_transformers(name: str, groups: int, models: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, config = opened(name, models / name)
    key_values.merge(model, planned(model, config, groups))
    student = config | {"num_key_value_heads": groups}
    weights.save(model, tmp_path / "student", student, models / name, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "student", dtype=torch.float32).eval()
    assert theirs.config.num_key_value_heads == groups
    with torch.no_grad():
        torch.testing.assert_close(theirs(TOKENS, use_cache=False).logits, logits(model), rtol=1e-4, atol=1e-4)


def test_baselines_take_the_mean_or_the_first(models: Path) -> None:
    model, config = opened("llama", models / "llama")
    packed = model.decoder.layers[1].self_attention.linear_qkv.weight.detach().unflatten(0, (4, 4, 6))
    expected = {"mean": packed.unflatten(0, (2, 2)).mean(1), "first": packed[::2]}
    for merging, rows in expected.items():
        model, _ = opened("llama", models / "llama")
        plan = planned(model, config, 2, grouping="adjacent", merging=merging)
        assert [how.groups for how in plan.values()] == [[[0, 1], [2, 3]]] * 2
        assert [how.layer for how in plan.values()] == [1, 2]
        key_values.merge(model, plan)
        found = model.decoder.layers[1].self_attention.linear_qkv.weight.detach().unflatten(0, (2, 6, 6))
        torch.testing.assert_close(found[:, -2:], rows[:, -2:])
        torch.testing.assert_close(found[:, :4].flatten(0, 1), packed[:, :2].flatten(0, 1))
        assert (model.config.num_query_groups, next(iter(plan.values())).kept is None) == (2, merging == "first")


def test_what_is_kept_is_a_share_of_squares(models: Path) -> None:
    model, config = opened("llama", models / "llama")
    for layer in model.decoder.layers:
        with torch.no_grad():
            packed = layer.self_attention.linear_qkv.weight.unflatten(0, (4, 4, 6))
            packed[:, -2:] = 0.0
            packed[:, -2, 0, 0] = torch.tensor([3.0, 1.0, 0.0, 0.0])
    (how, _) = planned(model, config, 2, grouping="adjacent", merging="mean").values()
    assert how.kept == pytest.approx(2 * 2.0**2 / (3.0**2 + 1.0**2))
    (alike, _) = planned(model, config, 2, merging="mean").values()
    assert alike.groups == [[0, 1], [2, 3]]


def test_kept_heads_are_told_by_layer(models: Path) -> None:
    model, config = opened("llama", models / "llama")
    plan = planned(model, config, 2, grouping="adjacent", merging="first")
    model.decoder.layers = model.decoder.layers[1:]
    assert key_values.described(plan, model) == {
        "2": {"of": 4, "count": 2, "ranges": "0+1, 2+3", "share": None, "gini": None}
    }
