"""Fewer key-value heads: those of a layer are grouped, and each group becomes one head that all its queries share.

ModelOpt's Minitron keeps all key-value heads, so this cut is our own. It is planned on the weights of the whole
teacher, before anything else is cut, so that a student and a candidate of a search get the same groups. Sources: a
group's mean, arXiv 2305.13245 (GQA); heads turned towards each other first, arXiv 2412.20677."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.families import family_of
from conf.hf_config import head_dim
from conf.rotary import rope
from conf.stages.prune import KvGrouping, KvMerging
from jobs.megatron.turns import ANY, Freedom, aligned, distances, similar


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How the key-value heads of a layer (by the teacher's number) become fewer: a new head is the sum of those of its
    group, each turned by its `keys` or `values` [heads, width, width] and multiplied by its share. `kept` is the part
    of the squares of all their weights that the new heads hold."""

    layer: int
    groups: list[list[int]]
    keys: torch.Tensor
    values: torch.Tensor
    shares: torch.Tensor
    kept: float | None


Plan = dict[torch.nn.Module, Merge]
"""By the attention of a layer, which keeps its place where other layers are dropped."""


def plan(
    model: GPTModel,
    config: dict[str, Any],
    groups: int,
    grouping: KvGrouping = "similarity",
    merging: KvMerging = "aligned",
) -> Plan:
    """How the teacher's key-value heads become `groups` in each layer of this pipeline stage; `config` is that of the
    teacher. The model stays as it is."""
    return {
        layer.self_attention: _planned(
            layer, groups, _freedom(config, layer.layer_number), grouping=grouping, merging=merging
        )
        for layer in model.decoder.layers
    }


def _freedom(config: dict[str, Any], layer: int) -> Freedom:
    """Which turns of keys the layer can undo."""
    family = family_of(config)
    still = family.unrotated and not config["no_rope_layers"][layer - 1]
    return Freedom(rotated=0 if still else int(head_dim(config) * rope(config).share), normed=family.qk_norm)


@torch.no_grad()
def _planned(layer: Any, groups: int, freedom: Freedom, *, grouping: KvGrouping, merging: KvMerging) -> Merge:
    attention = layer.self_attention
    heads, width = attention.config.num_query_groups, attention.config.kv_channels
    packed = _packed(attention.linear_qkv.weight, heads, width)
    if attention.linear_qkv.bias is not None:
        packed = torch.cat([packed, _packed(attention.linear_qkv.bias, heads, width)[..., None]], dim=-1)
    weights = [packed[:, part].double() for part in (-2, -1)]  # products are made where the model is, turns on the CPU
    products = [torch.einsum("aih,bjh->aibj", part, part).cpu() for part in weights]
    turned = merging == "aligned"
    if grouping == "similarity":
        freedoms = (freedom, ANY) if turned else (None, None)
        apart = sum(distances(part, each) for part, each in zip(products, freedoms, strict=True))
        assert isinstance(apart, torch.Tensor)
        members = similar(apart, groups)
    else:
        members = [list(part) for part in torch.arange(heads).view(groups, -1).tolist()]
    still = torch.eye(width, dtype=torch.float64).repeat(heads, 1, 1)
    turns = [
        aligned(part, members, each) if turned else still for part, each in zip(products, (freedom, ANY), strict=True)
    ]
    shares = torch.full((heads,), groups / heads, dtype=torch.float64)
    if merging == "first":
        shares = torch.zeros(heads, dtype=torch.float64)
        shares[[part[0] for part in members]] = 1.0
    kept = None if merging == "first" else _kept(weights, turns, members)
    return Merge(layer=layer.layer_number, groups=members, keys=turns[0], values=turns[1], shares=shares, kept=kept)


def _packed(tensor: torch.Tensor, heads: int, width: int) -> torch.Tensor:
    """The rows of the joint projection as [key-value heads, queries of one + 2, width, ...], its key and value last."""
    return tensor.detach().unflatten(0, (heads, -1, width))


def _kept(weights: list[torch.Tensor], turns: list[torch.Tensor], groups: list[list[int]]) -> float:
    """The part of the squares of keys and values that the means of `groups` hold."""
    total = sum(float(part.square().sum()) for part in weights)
    held = 0.0
    for part, turn in zip(weights, turns, strict=True):
        heads = turn.to(part) @ part
        held += sum(len(members) * float(heads[members].mean(0).square().sum()) for members in groups)
    return held / total if total else 1.0


@torch.no_grad()
def merge(model: GPTModel, plan: Plan) -> None:
    """Merge the key-value heads of `model` in place; query heads, and their columns of the output projection, are
    turned with them and follow their groups."""
    for layer in model.decoder.layers:
        _merge(layer.self_attention, plan[layer.self_attention])
    model.config.num_query_groups = len(next(iter(plan.values())).groups)


def _merge(attention: Any, how: Merge) -> None:
    heads, width, groups = len(how.shares), attention.config.kv_channels, len(how.groups)
    order = [head for members in how.groups for head in members]
    qkv, projection = attention.linear_qkv, attention.linear_proj
    for name in ("weight", "bias"):
        if (tensor := getattr(qkv, name)) is not None:
            packed = (
                _packed(tensor, heads, width).flatten(3)
                if name == "weight"
                else _packed(tensor, heads, width)[..., None]
            )
            joined = _joined(packed.double(), how, order).to(tensor)
            _replace(qkv, name, joined if name == "weight" else joined[:, 0])
    columns = projection.weight.detach().unflatten(1, (heads, -1, width)).double()
    turned = torch.einsum("hgqd,ged->hgqe", columns, how.values.to(columns))[:, order]
    _replace(projection, "weight", turned.flatten(1).to(projection.weight))
    attention.num_query_groups_per_partition = groups
    attention.kv_projection_size = groups * width
    qkv.output_size = qkv.output_size_per_partition = len(qkv.weight)


def _joined(packed: torch.Tensor, how: Merge, order: list[int]) -> torch.Tensor:
    """Rows of the joint projection [rows, columns] with merged heads, from [heads, queries + 2, width, columns]."""
    keys, values, shares = (each.to(packed) for each in (how.keys, how.values, how.shares))
    groups = len(how.groups)
    queries = torch.einsum("gij,gqjh->gqih", keys, packed[:, :-2])[order]
    merged = [
        (shares[:, None, None] * (turn @ packed[:, part]))[order].unflatten(0, (groups, -1)).sum(1)[:, None]
        for turn, part in ((keys, -2), (values, -1))
    ]
    return torch.cat([queries.unflatten(0, (groups, -1)).flatten(1, 2), *merged], dim=1).flatten(0, 2)


def _replace(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    setattr(module, name, torch.nn.Parameter(tensor.contiguous(), requires_grad=getattr(module, name).requires_grad))


@contextlib.contextmanager
def merged_outputs(model: GPTModel, plan: Plan) -> Iterator[None]:
    """While it lasts, `model` computes what it would with its heads merged: each key and value is replaced by that of
    its group, turned back."""
    hooks = []
    for layer in model.decoder.layers:
        hook = functools.partial(_replaced_outputs, plan[layer.self_attention])
        hooks.append(layer.self_attention.linear_qkv.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _replaced_outputs(how: Merge, _: Any, __: Any, output: Any) -> Any:
    joint, bias = output
    assert bias is None, "the bias is part of the output"
    packed = joint.unflatten(-1, (len(how.shares), -1, how.keys.shape[-1]))
    parts = [
        _of_group(packed[..., part, :].float(), how, turns).to(joint)[..., None, :]
        for turns, part in ((how.keys, -2), (how.values, -1))
    ]
    return torch.cat([packed[..., :-2, :], *parts], dim=-2).flatten(-3), None


def _of_group(heads: torch.Tensor, how: Merge, turns: torch.Tensor) -> torch.Tensor:
    """For each head [..., heads, width], that of its group, turned back."""
    turns, shares = turns.to(heads), how.shares.to(heads)
    turned = torch.einsum("gij,...gj->...gi", turns, heads) * shares[:, None]
    own = torch.empty_like(turned)
    for members in how.groups:
        own[..., members, :] = turned[..., members, :].sum(-2, keepdim=True)
    return torch.einsum("gji,...gj->...gi", turns, own)


def described(plan: Plan, model: GPTModel) -> dict[str, Any]:
    """The axis of kept.json: what became of the key-value heads of each layer that `model` still has, from all pipeline
    stages. Collective."""
    own = [plan[layer.self_attention] for layer in model.decoder.layers]
    entries = {
        how.layer: {
            "of": len(how.shares),
            "count": len(how.groups),
            "ranges": ", ".join("+".join(map(str, members)) for members in how.groups),
            "share": how.kept,
            "gini": None,
        }
        for how in own
    }
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, entries)
    return {
        str(number): entry for number, entry in sorted({k: v for part in gathered for k, v in part.items()}.items())
    }
