"""What a cut kept of the teacher: layers, heads and channels by the teacher's numbers, with the spread of their
importance.

Reads ModelOpt's dynamic model after the search and before the export, while the enforced order is still known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from jobs.runtime.ranges import ranges

PER_LAYER = {"ffn_hidden_size": "mlp", "num_attention_heads": "self_attention"}
"""Axes that each layer cuts separately, with the module that is cut."""

Indices = dict[str, Any]
"""`hidden_size`: kept channels; the other axes: layer number -> kept channels or heads; all sorted, from 0."""


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
            local[axis] = {
                number: _active(getattr(layer, PER_LAYER[axis]).get_hparam(axis)) for number, layer in remaining
            }
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, local)
    merged: Indices = dict(gathered[0])
    for axis in PER_LAYER:
        if axis in merged:
            merged[axis] = {number: kept for part in gathered for number, kept in part[axis].items()}
    return merged


def _active(hparam: Any) -> list[int]:
    kept_indices = hparam.active_slice
    return (
        list(range(hparam.max))[kept_indices]
        if isinstance(kept_indices, slice)
        else sorted(int(index) for index in kept_indices)
    )


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
            values = tensors[f"{number}.{PER_LAYER[axis]}"].sqrt()
            if axis == "num_attention_heads":
                values = values.view(heads, -1).norm(dim=1)
            axes[axis][str(number)] = _entry(kept, values)
    return axes


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
