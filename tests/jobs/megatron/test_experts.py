"""Experts that ranks divide, and how a rank computes its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.parallel import Parallel
from conf.shape import Shape
from jobs.megatron import attention, experts, optimizer, pieces, weights
from jobs.megatron import model as megatron

pytestmark = pytest.mark.usefixtures("one_rank")

SHAPE = {"architecture": "qwen3_moe", "num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 8, "num_experts": 4}
SHAPE |= {"experts_per_token": 2, "num_attention_heads": 2, "num_query_groups": 1, "tie_word_embeddings": False}
CONFIG = megatron.config_of_shape(Shape.model_validate(SHAPE), 32, 0)
STATE = weights.parallel_state


def made() -> Any:
    model = megatron.build(CONFIG, Parallel(), "fp32", torch.device("cpu"))
    weights.initialize(model, CONFIG, 1)
    return model


@pytest.mark.parametrize(("ranks", "rank", "first"), [(1, 0, 0), (2, 0, 0), (2, 1, 2), (4, 3, 3)])
def test_a_rank_holds_experts_in_a_row(ranks: int, rank: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STATE, "get_expert_model_parallel_world_size", lambda: ranks)
    monkeypatch.setattr(STATE, "get_expert_model_parallel_rank", lambda: rank)
    assert experts.first_of_rank(CONFIG) == first
    dense = {name: size for name, size in SHAPE.items() if "experts" not in name} | {"architecture": "qwen3"}
    assert experts.first_of_rank(megatron.config_of_shape(Shape.model_validate(dense), 32, 0)) == 0
    names = [name for _, names, _ in weights.parameters_of(made(), CONFIG) for name in names if ".experts." in name]
    assert min(int(name.split(".")[5]) for name in names) == first


@pytest.mark.parametrize("engine", [False, True])
@pytest.mark.parametrize("for_pruning", [False, True])
def test_experts_are_grouped_where_layers_are_transformer_engines(
    engine: bool, for_pruning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModelOpt cuts local layers, whose experts run one after the other everywhere."""
    found: dict[str, Any] = {}

    def spec(config: Any, *, local: bool, sandwiched: bool) -> Any:
        found.update(config=config, local=local)
        raise StopIteration

    monkeypatch.setattr(megatron, "has_transformer_engine", lambda: engine)
    monkeypatch.setattr(megatron, "layers", spec)
    monkeypatch.setattr("megatron.core.transformer.transformer_config.is_te_min_version", lambda _: True)
    with pytest.raises(StopIteration):
        megatron.build(CONFIG, Parallel(processes=2, expert=2), "bf16", torch.device("cpu"), for_pruning=for_pruning)
    config, grouped = found["config"], engine and not for_pruning
    assert (config.moe_grouped_gemm, found["local"]) == (grouped, for_pruning)
    assert config.moe_token_dispatcher_type == ("alltoall" if grouped else "allgather")
    assert config.expert_model_parallel_size == 2


@pytest.mark.parametrize("grouped", [False, True])
def test_transformer_engines_layers_are_asked_for_grouped_experts(
    grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def spec(*given: Any, qk_layernorm: bool) -> Any:
        asked.extend([*given, qk_layernorm])
        return SimpleNamespace(module="layer")

    monkeypatch.setattr(attention, "has_transformer_engine", lambda: True)
    monkeypatch.setattr(attention, "get_gpt_layer_with_transformer_engine_spec", spec)
    config: Any = SimpleNamespace(num_moe_experts=4, moe_grouped_gemm=grouped, qk_layernorm=True)
    assert attention.layers(config).module == "layer"
    assert asked == [4, grouped, True]


def test_slices_of_grouped_experts_are_marked() -> None:
    """Transformer Engine marks none: it is not told of the ranks that share an expert."""
    holder = torch.nn.Module()
    holder.mlp = torch.nn.Module()
    holder.mlp.experts = torch.nn.Module()
    for part in ("linear_fc1", "linear_fc2"):
        setattr(holder.mlp.experts, part, torch.nn.Module())
        for number in (0, 11):
            getattr(holder.mlp.experts, part).register_parameter(
                f"weight{number}", torch.nn.Parameter(torch.zeros(2, 2))
            )
    holder.router = torch.nn.Linear(2, 2)
    megatron.mark_slices(holder)
    found = {name: getattr(weight, "partition_dim", None) for name, weight in holder.named_parameters()}
    assert found == {
        **{f"mlp.experts.linear_fc1.weight{number}": 0 for number in (0, 11)},
        **{f"mlp.experts.linear_fc2.weight{number}": 1 for number in (0, 11)},
        "router.weight": None,
        "router.bias": None,
    }


def test_a_router_is_drawn_whole_by_every_tensor_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    routers = [each for each in weights.parameters_of(model, CONFIG) if each[1][0].endswith("gate.weight")]
    before = [parameter.detach().clone() for parameter, *_ in routers]
    monkeypatch.setattr(weights, "parameters_of", lambda *_: iter(routers))
    monkeypatch.setattr(STATE, "get_tensor_model_parallel_world_size", lambda: 2)
    weights.initialize(model, CONFIG, 1)
    assert len(routers) == 2 and all(torch.equal(old, new[0]) for old, new in zip(before, routers, strict=True))


@pytest.mark.parametrize(("divided", "group"), [(False, 1), (True, 4)])
def test_ranks_with_the_same_experts_write_a_share_each(
    divided: bool, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(size: int) -> Any:
        return SimpleNamespace(rank=lambda: 0, size=lambda: size)

    model = made()
    monkeypatch.setattr(STATE, "get_data_parallel_group", lambda with_context_parallel: of(1))
    monkeypatch.setattr(STATE, "get_expert_data_parallel_group", lambda: of(4))
    weight = model.decoder.layers[0].mlp.experts.local_experts[1].linear_fc2.weight
    weight.allreduce = not divided
    assert experts.divided(weight) is divided and not experts.divided(model.decoder.layers[0].mlp.router.weight)
    taken, notes = pieces.snapshot(model, CONFIG, {"master": pieces.whole(lambda parameter: parameter)})["master"]
    name = "model.layers.0.mlp.experts.1.down_proj.weight"
    assert taken[name].numel() == 16 * 8 // group and notes[name]["start"] == 0
    assert taken["model.layers.0.mlp.gate.weight"].numel() == 4 * 16


def test_muon_takes_the_norm_of_divided_experts_from_their_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    other.allreduce = False  # type: ignore[attr-defined]
    monkeypatch.setattr(STATE, "get_model_parallel_group", lambda: "model")
    monkeypatch.setattr(STATE, "get_expert_tensor_model_pipeline_parallel_group", lambda: "experts")
    parts: Any = optimizer._apart([{"params": [one, other], "dim": 0}, {"params": [], "dim": 1}])
    assert [(group, [len(each["params"]) for each in groups]) for groups, group in parts] == [
        ("model", [1, 0]),
        ("experts", [1, 0]),
    ]
    assert parts[0][0][0]["params"][0] is one and parts[1][0][0]["params"][0] is other
    assert [each["dim"] for each in parts[1][0]] == [0, 1]


def test_experts_of_all_ranks_stand_in_a_models_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two expert-parallel ranks of two tensor-parallel ones each, in the second of two pipeline stages."""
    like = torch.empty(0, device="meta")

    def told(first: int) -> list[Any]:
        names = [f"model.layers.{layer}.mlp.{part}" for layer in (1, 10) for part in ("gate", first, first + 1)]
        return [((name,), "whole", like) for name in [*names, "model.norm.weight", "lm_head.weight"]]

    def broadcast(box: list[Any], src: int) -> None:
        asked.append(src)
        box[0] = told(2 * (src == 6))

    asked: list[int] = []
    for name, size in (("expert_model", 2), ("tensor_model", 2), ("pipeline_model", 2)):
        monkeypatch.setattr(STATE, f"get_{name}_parallel_world_size", lambda size=size: size)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 8)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    plan = weights._plan_of(1, [])
    assert asked == [4, 6]
    parts = ["gate", 0, 1, 2, 3]
    names = [f"model.layers.{layer}.mlp.{part}" for layer in (1, 10) for part in parts]
    assert [names[0] for names, *_ in plan] == [*names, "model.norm.weight", "lm_head.weight"]
    assert [owners for *_, owners in plan[:5]] == [[4, 5], [4, 5], [4, 5], [6, 7], [6, 7]]


def test_experts_one_after_another_may_have_no_gradient() -> None:
    """So no sum of gradients may begin before the backward pass has ended."""
    assert experts.one_by_one(made())
    dense = {name: size for name, size in SHAPE.items() if "experts" not in name} | {"architecture": "qwen3"}
    config = megatron.config_of_shape(Shape.model_validate(dense), 32, 0)
    assert not experts.one_by_one(megatron.build(config, Parallel(), "fp32", torch.device("cpu")))
