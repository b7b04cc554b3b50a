"""Experts as modules of their own compute what transformers' fused ones do, under the names of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from conf.families import FAMILIES
from jobs.huggingface import experts
from tests.fixtures.families import logits, random_model
from tests.jobs.test_families import SIZES

SMALL = SIZES | {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 32, "head_dim": 4}
OWN: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
}
TOKENS = torch.arange(24).view(2, 12) * 5 % 32


@pytest.mark.parametrize("name", OWN)
def test_separate_experts_compute_the_same(name: str, tmp_path: Path) -> None:
    """Also where an expert sees no token."""
    model = random_model(name, tmp_path, torch.float32, **SMALL | OWN[name])
    expected = logits(model, TOKENS)
    few = logits(model, TOKENS[:1, :1])
    fused = model.model.layers[1].mlp.experts
    second = fused.gate_up_proj[2].chunk(2)[1].detach().clone()
    model.requires_grad_(False)
    separated = experts.separate(model)
    assert separated is model
    torch.testing.assert_close(logits(model, TOKENS), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(model, TOKENS[:1, :1]), few, rtol=1e-5, atol=1e-5)
    found = model.model.layers[1].mlp.experts
    assert len(found) == found.num_experts == 5
    up = FAMILIES[name].experts.projections[1]  # type: ignore[union-attr]
    linear = found[2].get_submodule(up)
    assert torch.equal(linear.weight, second) and not linear.weight.requires_grad
    assert (linear.in_features, linear.out_features) == (16, len(second))


def test_a_dense_model_stays_as_it_is(tmp_path: Path) -> None:
    model = random_model("llama", tmp_path, torch.float32, **SMALL)
    names = [name for name, _ in model.named_modules()]
    assert experts.separate(model) is model and [name for name, _ in model.named_modules()] == names


def test_names_of_files_and_of_memory() -> None:
    kind = FAMILIES["mixtral"].experts
    held, stored = "model.layers.1.mlp.experts.3.w2", "model.layers.1.block_sparse_moe.experts.3.w2"
    assert (experts.stored_name(held, kind), experts.held_name(stored, kind)) == (stored, held)
    assert experts.stored_name(held, None) == held and experts.held_name(stored, None) == stored
    assert experts.mixture_of(held) == "model.layers.1.mlp.experts.*.w2"
    assert experts.mixture_of("model.layers.1.mlp.gate") is None
