"""Which weights AdamW and Muon step in quantization-aware distillation, and how."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.stages.qad import QADConfig
from jobs.quantization import optimizers
from tests.jobs.quantization.test_qad import SETTINGS, model


def names_of(group: Any, named: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, weight in named.items() if any(weight is each for each in group["params"])}


@pytest.mark.parametrize("decay", [None, 0.0, 0.3])
def test_each_weight_has_its_decay(decay: float | None) -> None:
    one = model(1)
    settings = SETTINGS | {"weight_decay": 0.1, "optimizer": {"name": "adamw", "embedding_weight_decay": decay}}
    (adamw,) = optimizers.optimizers_of(one, QADConfig.model_validate(settings))
    named = dict(one.named_parameters())
    decays = {name: group["weight_decay"] for group in adamw.param_groups for name in names_of(group, named)}
    assert decays.keys() == named.keys()
    for name, found in decays.items():
        expected = 0.0 if named[name].dim() == 1 else 0.1
        assert found == (decay if name == "model.embed_tokens.weight" and decay is not None else expected)
    assert adamw.defaults["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("per_head", [False, True])
def test_muon_has_the_matrices_inside_layers(per_head: bool) -> None:
    one = model(1)
    settings = SETTINGS | {"optimizer": {"name": "muon", "per_head": per_head}}
    muon, adamw = optimizers.optimizers_of(one, QADConfig.model_validate(settings))
    named = dict(one.named_parameters())
    theirs = [names_of(group, named) for group in muon.param_groups]
    assert set.union(*theirs) == {name for name in named if name.endswith("_proj.weight")} and len(theirs) == 7
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(named) - 7
    for group, (name,) in zip(muon.param_groups, theirs, strict=True):
        (view,) = group["split"](named[name])
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name or "v_proj" in name else 0
        assert tuple(view.shape) == ((1, heads, 4, 16) if heads and per_head else tuple(named[name].shape))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_muon_steps_as_the_recipe_says(precision: str, dtype: torch.dtype) -> None:
    settings = SETTINGS | {"precision": precision, "weight_decay": 0.3}
    optimizer = {"name": "muon", "momentum": 0.7, "iterations": 3}
    muon, adamw = optimizers.optimizers_of(model(1), QADConfig.model_validate(settings | {"optimizer": optimizer}))
    assert (muon.dtype, muon.momentum, muon.iterations) == (dtype, 0.7, 3)
    assert {group["weight_decay"] for group in muon.param_groups} == {0.3}
    assert {group["weight_decay"] for group in adamw.param_groups} == {0.0, 0.3}


@pytest.mark.parametrize("per_head", [False, True])
def test_fused_projections_are_several_matrices(per_head: bool) -> None:
    config = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 16}
    splits = optimizers._splits(config, per_head=per_head)
    parts = splits["qkv_proj"](torch.zeros(32, 16))
    assert [tuple(part.shape) for part in parts] == (
        [(1, 4, 4, 16), (1, 2, 4, 16), (1, 2, 4, 16)] if per_head else [(16, 16), (8, 16), (8, 16)]
    )
    assert [tuple(part.shape) for part in splits["gate_up_proj"](torch.zeros(48, 16))] == [(24, 16)] * 2


@pytest.mark.parametrize(("given", "scale"), [({}, 1.0), ({"adamw_lr_scale": 3}, 3.0)])
def test_what_adamw_steps_beside_muon_has_a_rate(given: dict[str, Any], scale: float) -> None:
    """Norms inside layers too, which are no matrices."""
    named = {
        f"model.layers.0.self_attn.{name}.weight": torch.nn.Parameter(torch.ones(*sizes))
        for name, sizes in (("q_proj", (16, 16)), ("q_norm", (16,)))
    }
    config = SimpleNamespace(to_dict=lambda: model(1).config.to_dict())
    one: Any = SimpleNamespace(named_parameters=lambda: named.items(), config=config)
    settings = SETTINGS | {"optimizer": {"name": "muon"} | given}
    muon, adamw = optimizers.optimizers_of(one, QADConfig.model_validate(settings))
    assert [len(group["params"]) for group in (*muon.param_groups, *adamw.param_groups)] == [1, 1]
    assert adamw.param_groups[0]["params"][0].dim() == 1
    assert [group["lr_scale"] for group in adamw.param_groups] == [scale]
