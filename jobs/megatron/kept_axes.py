"""What a cut kept of the teacher: layers, heads and channels by the teacher's numbers, with the spread of their
importance.

Reads ModelOpt's dynamic model after the search and before the export, while the enforced order is still known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from jobs.runtime.ranges import ranges

PER_LAYER = {"ffn_hidden_size": "mlp", "num_attention_heads": "self_attention", "num_experts": "mlp"}
"""Axes that each layer cuts separately, with the module that is cut."""

Indices = dict[str, Any]
"""`hidden_size`: kept channels; the other axes: layer number -> kept channels, heads or experts, and the channels of
experts by expert; all from 0, those of experts in the order of the cut model, the others sorted."""


def layer_numbers(model: GPTModel) -> list[int]:
    """The layers of this pipeline stage by the teacher's numbers, from 1; call it before a cut renumbers them."""
    return [layer.layer_number for layer in model.decoder.layers]


def kept_indices(dynamic: Any, axes: Iterable[str], layers: list[int]) -> Indices:
    """The indices that ModelOpt's active slices keep along `axes`, from all pipeline stages; `layers` are the teacher's
    numbers of this stage's remaining layers. Collective."""
    local: Indices = {}
    for axis in axes:
        if axis == "hidden_size":
            local[axis] = _active(dynamic.get_hparam(axis))
        elif axis in PER_LAYER:
            remaining = zip(layers, dynamic.decoder.layers, strict=True)
            local[axis] = {number: _of_layer(layer, axis) for number, layer in remaining}
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, local)
    merged: Indices = dict(gathered[0])
    for axis in PER_LAYER:
        if axis in merged:
            merged[axis] = {number: kept for part in gathered for number, kept in part[axis].items()}
    return merged


def _of_layer(layer: Any, axis: str) -> Any:
    """What a layer keeps along an axis."""
    module = getattr(layer, PER_LAYER[axis])
    if axis == "num_experts":
        return _active(module.get_hparam("num_moe_experts"))
    if axis == "ffn_hidden_size" and hasattr(module, "experts"):
        experts = zip(_order(module.get_hparam("num_moe_experts")), module.experts.local_experts, strict=True)
        return {number: _active(expert.get_hparam("moe_ffn_hidden_size")) for number, expert in experts}
    return _active(module.get_hparam(axis))


def _order(hparam: Any) -> list[int]:
    """The kept indices as the cut model has them."""
    kept = hparam.active_slice
    return list(range(hparam.max))[kept] if isinstance(kept, slice) else [int(index) for index in kept]


def _active(hparam: Any) -> list[int]:
    return sorted(_order(hparam))


def describe_axes(
    kept_indices: Indices,
    layers: list[int] | None,
    scores: dict[str, float],
    tensors: dict[str, torch.Tensor],
    heads: int,
) -> dict[str, Any]:
    """The axes of kept.json: `{of, count, ranges, share, gini}` each, per layer where layers are cut separately.
    `layers` are the kept ones where some were dropped; `heads` is the teacher's number of query heads."""
    axes: dict[str, Any] = {}
    if layers is not None:
        by_layer = torch.tensor([scores[str(number)] for number in sorted(map(int, scores))])
        axes["num_layers"] = _entry([number - 1 for number in layers], by_layer) | {"ranges": ranges(layers)}
    if "hidden_size" in kept_indices:
        # As ModelOpt combines them: the L2 norm over samples at each norm, summed over norms.
        norms = [tensor.sqrt() for name, tensor in tensors.items() if name.endswith("layernorm")]
        axes["hidden_size"] = _entry(kept_indices["hidden_size"], torch.stack(norms).sum(0))
    for axis, kept_by_layer in kept_indices.items():
        if axis not in PER_LAYER:
            continue
        axes[axis] = {}
        for number, kept in sorted(kept_by_layer.items()):
            if axis == "num_experts":
                axes[axis][str(number)] = _entry(kept, expert_importance(tensors, number))
                continue
            if isinstance(kept, dict):
                axes[axis][str(number)] = _of_experts(kept, number, tensors)
                continue
            values = tensors[f"{number}.{PER_LAYER[axis]}"].sqrt()
            if axis == "num_attention_heads":
                values = values.view(heads, -1).norm(dim=1)
            axes[axis][str(number)] = _entry(kept, values)
    return axes


def expert_importance(tensors: dict[str, torch.Tensor], layer: int) -> torch.Tensor:
    """ModelOpt's importance of a layer's experts: the mean norm of their weighted outputs over the tokens they saw."""
    totals, counts = (tensors[f"{layer}.mlp.experts.{part}"] for part in ("expert_l2_scores", "expert_sample_counts"))
    return totals / (counts + 1e-8)


def _of_experts(kept: dict[int, list[int]], layer: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The entry of a layer whose experts each keep channels of their own: their least share and largest Gini, and the
    channels under `experts`, by the teacher's number from 0."""
    entries = {
        number: _entry(channels, tensors[f"{layer}.mlp.experts.local_experts.{number}"].sqrt())
        for number, channels in sorted(kept.items())
    }
    known = [entry["share"] for entry in entries.values() if entry["share"] is not None]
    one = next(iter(entries.values()))
    return one | {
        "ranges": f"differs in {len(entries)} experts",
        "share": min(known) if known else None,
        "gini": max(entry["gini"] for entry in entries.values()),
        "experts": {str(number): entry["ranges"] for number, entry in entries.items()},
    }


def _entry(kept: list[int], importance: torch.Tensor) -> dict[str, Any]:
    """Total and kept count, the kept ranges, their share of all importance, and the Gini coefficient of theirs."""
    importance = importance.double()
    kept_importance, total = importance[kept], float(importance.sum())
    share = float(kept_importance.sum()) / total if total > 0 else None
    return {
        "of": len(importance),
        "count": len(kept),
        "ranges": ranges(kept),
        "share": share,
        "gini": gini(kept_importance),
    }


def gini(values: torch.Tensor) -> float:
    """The Gini coefficient: 0 where all values are equal, towards 1 where one holds everything."""
    ordered, count = values.double().sort().values, len(values)
    total = float(ordered.sum())
    if total <= 0:
        return 0.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    return float(2 * (ranks * ordered).sum() / (count * total) - (count + 1) / count)
