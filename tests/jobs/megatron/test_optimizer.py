"""Which weights the optimizers step, with what states."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

from conf.stages.teacher import TeacherConfig
from jobs.megatron import optimizer, training
from jobs.megatron.weights import HEADS
from jobs.runtime.muon import Muon
from tests.fixtures.training import OBJECTIVE, SETTINGS, SPLITS, logged, made, trained
from tests.jobs.test_schedule import COMMON, SCHEDULES, SHAPE

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.mark.parametrize(
    ("precision", "name"), [("fp32", "adamw"), ("bf16", "adamw"), ("fp32", "muon"), ("bf16", "muon")]
)
def test_bytes_of_the_optimizer_are_counted(precision: str, name: str) -> None:
    """Two moments of each weight in fp32, of Muon's one; and the weights themselves where the model's are bf16."""
    config = TeacherConfig.model_validate(SETTINGS | {"precision": precision, "optimizer": name})
    model, _ = made(precision)
    run = training._Run(model, config, OBJECTIVE, *SPLITS)
    numbers = sum(weight.numel() for weight in model.parameters())
    matrices = sum(
        weight.numel() for layer in model.decoder.layers for weight in layer.parameters() if weight.dim() > 1
    )
    expected = 4 * (2 * numbers - (matrices if name == "muon" else 0) + (numbers if precision == "bf16" else 0))
    assert optimizer.bytes_held(run.optimizer, model) == expected
    if name == "muon":
        muon, adam = run.optimizer.chained_optimizers
        assert muon.optimizer.dtype is {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert not isinstance(adam.optimizer, Muon)
    moments = [
        sum(optimizer.moment(run.optimizer, each)(weight) is not None for weight in model.parameters())
        for each in optimizer.MOMENTS
    ]
    count = len(list(model.parameters()))
    assert moments == [count, count - (8 if name == "muon" else 0)]


def test_muon_steps_matrices_inside_layers() -> None:
    """The ranks of a matrix share its rows where it begins a block and its columns where it ends one."""
    model, _ = made()
    model.decoder.layers[0].mlp.linear_fc2.weight.requires_grad = False
    groups = optimizer._groups(model, per_head=False)
    assert [(len(group["params"]), group["dim"]) for group in groups] == [(2, 0), (2, 1), (2, 0), (1, 1)]
    gate, up = groups[2]["split"](torch.arange(48)[:, None])
    assert gate.flatten().tolist() == list(range(24)) and up.flatten().tolist() == list(range(24, 48))


def test_muon_leaves_routers_to_adam() -> None:
    weights = {
        "decoder.layers.0.mlp.experts.local_experts.1.linear_fc1.weight": (4, 4),
        "decoder.layers.0.mlp.experts.local_experts.12.linear_fc2.weight": (4, 4),
        "decoder.layers.0.mlp.router.weight": (2, 4),
        "decoder.layers.0.input_layernorm.weight": (4,),
        "embedding.word_embeddings.weight": (8, 4),
    }
    named = [(name, torch.nn.Parameter(torch.zeros(size))) for name, size in weights.items()]
    config = SimpleNamespace(kv_channels=2, num_attention_heads=2, num_query_groups=1)
    model: Any = SimpleNamespace(config=config, named_parameters=lambda: named)
    assert [len(group["params"]) for group in optimizer._groups(model, per_head=True)] == [0, 0, 1, 1]


@pytest.mark.parametrize("per_head", [False, True])
def test_packed_rows_are_queries_keys_and_values(per_head: bool) -> None:
    """Of four heads in two groups, three rows each: a group has six rows of queries, three of its key, three of its
    value."""
    config = SimpleNamespace(kv_channels=3, num_attention_heads=4, num_query_groups=2)
    rows = torch.arange(24)[:, None]
    parts = optimizer._queries_keys_values(SimpleNamespace(config=config), per_head=per_head)(rows)  # type: ignore[arg-type]
    heads = [[[0, 1, 2], [3, 4, 5], [12, 13, 14], [15, 16, 17]], [[6, 7, 8], [18, 19, 20]], [[9, 10, 11], [21, 22, 23]]]
    for part, expected in zip(parts, heads, strict=True):
        assert part.dim() == (4 if per_head else 3)
        assert part.reshape(-1, 3).tolist() == expected


def test_experts_that_ranks_divide_have_a_norm_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank has the others whole; of each kind the matrices stay in the groups that say how they are stored."""
    own, other, third = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    own.allreduce = False  # type: ignore[attr-defined]  # Megatron's mark
    monkeypatch.setattr(optimizer.parallel_state, "get_model_parallel_group", lambda: "all")
    monkeypatch.setattr(optimizer.parallel_state, "get_expert_tensor_model_pipeline_parallel_group", lambda: "experts")
    found = optimizer._apart([{"params": [own, other], "dim": 0}, {"params": [third], "dim": 1}])
    assert [(list(map(id, group["params"])), group["dim"], ranks) for groups, ranks in found for group in groups] == [
        ([id(other)], 0, "all"),
        ([id(third)], 1, "all"),
        ([id(own)], 0, "experts"),
        ([], 1, "experts"),
    ]


@pytest.mark.parametrize("ranks", [1, 2])
def test_only_ranks_that_divide_experts_keep_them_apart(ranks: int) -> None:
    config = TeacherConfig.model_validate(SETTINGS | {"optimizer": "muon"})
    model, _ = made()
    wrapped = training._Run(model, config, OBJECTIVE, *SPLITS).wrapped
    shared = config.model_copy(update={"parallel": config.parallel.model_copy(update={"expert": ranks})})
    found: Any = optimizer.optimizer_of(shared, model, wrapped)
    assert [isinstance(each.optimizer, Muon) for each in found.chained_optimizers] == [True] * ranks + [False]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_rates_go_from_the_recipe_s_to_its_smallest() -> None:
    config = TeacherConfig.model_validate(SETTINGS)
    groups: list[dict[str, Any]] = [{}, {optimizer.LR_SCALE: 3.0}]
    for group in groups:
        optimizer.set_rates(group, config)
    assert [(group["max_lr"], group["min_lr"]) for group in groups] == [(1e-2, 1e-3), pytest.approx((3e-2, 3e-3))]


def test_a_rank_steps_its_stretches_of_a_distributed_optimizer() -> None:
    """And nothing of the other weights."""
    one, other, weight = (torch.nn.Parameter(torch.zeros(4)) for _ in range(3))
    found: Any = DistributedOptimizer.__new__(DistributedOptimizer)
    found.model_param_group_index_map = {one: (1, 0)}
    found.optimizer = SimpleNamespace(param_groups=[{"params": [other]}, {"params": [weight]}])
    found._get_model_param_range_map = lambda parameter: {"param": SimpleNamespace(start=3)}
    piece = optimizer.stepped(found)(one)
    assert piece is not None and piece.values is weight and (piece.start, piece.owned) == (3, True)
    assert optimizer.stepped(found)(other) is None


def test_muon_steps_the_matrices_of_heads_for_later_tokens() -> None:
    """Those of their layers with the model's; their projection is whole on every rank."""
    weights = {
        f"{HEADS}.0.layer.self_attention.linear_qkv.weight": (4, 4),
        f"{HEADS}.0.layer.input_layernorm.weight": (4,),
        f"{HEADS}.1.projection.weight": (4, 8),
        f"{HEADS}.1.norm.weight": (4,),
        "decoder.layers.0.self_attention.linear_qkv.weight": (4, 4),
    }
    named = {name: torch.nn.Parameter(torch.zeros(size)) for name, size in weights.items()}
    config = SimpleNamespace(kv_channels=2, num_attention_heads=2, num_query_groups=1)
    model: Any = SimpleNamespace(config=config, named_parameters=named.items)
    groups = optimizer._groups(model, per_head=False)
    assert [len(group["params"]) for group in groups] == [2, 0, 0, 0, 1]
    assert groups[-1]["params"] == [named[f"{HEADS}.1.projection.weight"]] and "dim" not in groups[-1]


SCHEDULED: dict[str, Any] = {**COMMON, "seq_length": 16, "shape": SHAPE}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_megatron_follows_the_formula(schedule: Any) -> None:
    config = TeacherConfig.model_validate(SCHEDULED | {"schedule": schedule})
    group: dict[str, float] = {}
    megatron = optimizer.scheduler(config, SimpleNamespace(param_groups=[group]))
    for step in range(1, 41):
        megatron.step(1)
        expected = step / 5 if step <= 5 else 0.1 + 0.9 * config.schedule.height(step, 40, 5)
        assert group["lr"] == pytest.approx(1e-3 * expected, abs=1e-12), step


def test_constant_stays() -> None:
    settings = SCHEDULED | {"schedule": "constant", "min_lr": 1e-3}
    group: dict[str, float] = {}
    megatron = optimizer.scheduler(TeacherConfig.model_validate(settings), SimpleNamespace(param_groups=[group]))
    megatron.step(40)
    assert group["lr"] == 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adamw_beside_muon_has_a_rate_of_its_own(precision: str, tmp_path: Path) -> None:
    """Adam's first step is the rate, whatever the gradient: three times as far; matrices step as before."""
    given = {"steps": 1, "warmup_steps": 0, "weight_decay": 0.0, "precision": precision}
    given |= {"schedule": "constant", "min_lr": SETTINGS["lr"]}
    moved = []
    for name, scale in (("plain", 1.0), ("scaled", 3.0)):
        muon = {"name": "muon", "adamw_lr_scale": scale}
        model, _ = trained(tmp_path / name, optimizer=muon, **given)
        begun = dict(made(precision)[0].named_parameters())
        ends = {name: optimizer.master(weight).detach() for name, weight in model.named_parameters()}
        moved.append({name: end - begun[name].detach().float() for name, end in ends.items()})
        assert logged(tmp_path / name)[1]["lr"] == SETTINGS["lr"]
    for name, change in moved[0].items():
        inside = "layers" in name and change.dim() == 2
        torch.testing.assert_close(moved[1][name], change * (1 if inside else 3), rtol=1e-3, atol=1e-6)


def test_states_are_zero_before_the_first_step() -> None:
    """And stay as they are when they are looked at later."""
    config = TeacherConfig.model_validate(SETTINGS)
    model, _ = made()
    run = training._Run(model, config, OBJECTIVE, *SPLITS)
    for weight, state in optimizer.states(run.optimizer).items():
        assert state["exp_avg"].shape == weight.shape and not state["exp_avg"].any()
        assert not state["exp_avg_sq"].any() and state["step"] == 0
    run.step(0)
    assert all(state["step"] == 1 and state["exp_avg"].any() for state in optimizer.states(run.optimizer).values())
