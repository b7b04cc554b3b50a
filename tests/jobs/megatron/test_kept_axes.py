"""What a report says of a cut: kept indices, their share of importance and the Gini coefficient, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.megatron import kept_axes


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.0, 1.0], 0.0),
        ([0.0, 0.0, 0.0, 8.0], 0.75),
        ([1.0, 3.0], 0.25),
        ([0.125, 0.375], 0.25),
        ([3.0, 1.0, 2.0], 2 / 9),
        ([0.0, 0.0], 0.0),
        ([5.0], 0.0),
    ],
)
def test_gini_is_half_the_mean_difference(values: list[float], expected: float) -> None:
    """Of all pairs, relative to the mean."""
    mean = sum(values) / len(values)
    pairs = sum(abs(one - other) for one in values for other in values) / len(values) ** 2
    assert expected == pytest.approx(pairs / 2 / mean if mean else 0.0)
    assert kept_axes.gini(torch.tensor(values)) == pytest.approx(expected, abs=1e-12)


def test_layers_and_channels_have_shares_of_importance() -> None:
    """Norms are summed over both norms of all layers, heads are norms of their channels, all roots of the sums."""
    scores = {str(layer): float(layer) for layer in (10, 2, 1, 3, 4, 5, 6, 7, 8, 9)}
    tensors = {
        "1.input_layernorm": torch.tensor([1.0, 4.0, 9.0]),
        "1.pre_mlp_layernorm": torch.tensor([4.0, 4.0, 4.0]),
        "1.mlp": torch.tensor([1.0, 9.0, 16.0, 0.0]),
        "1.self_attention": torch.tensor([9.0, 16.0, 0.0, 25.0]),
    }
    kept: dict[str, Any] = {
        "hidden_size": [0, 2],
        "ffn_hidden_size": {1: [1, 2, 3]},
        "num_attention_heads": {1: [1]},
        "head_dim": {1: [0]},
    }
    axes = kept_axes.describe_axes(kept, [1, 10], scores, tensors, heads=2)
    assert axes["num_layers"] == {
        "of": 10,
        "count": 2,
        "ranges": "1, 10",
        "share": pytest.approx(11 / 55),
        "gini": pytest.approx(9 / 22),
    }
    assert axes["hidden_size"] == {
        "of": 3,
        "count": 2,
        "ranges": "0, 2",
        "share": pytest.approx((3 + 5) / (3 + 4 + 5)),
        "gini": pytest.approx(0.125),
    }
    mlp = axes["ffn_hidden_size"]["1"]
    assert (mlp["of"], mlp["count"], mlp["ranges"], mlp["share"]) == (4, 3, "1-3", pytest.approx(7 / 8))
    heads = axes["num_attention_heads"]["1"]
    assert (heads["of"], heads["count"], heads["share"]) == (2, 1, pytest.approx(0.5)), "5 and 5"
    assert set(axes) == {"num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads"}


def test_without_a_cut_of_depth_no_layers_are_told() -> None:
    assert kept_axes.describe_axes({}, None, {"1": 1.0}, {}, heads=2) == {}


def test_what_has_no_importance_has_no_share() -> None:
    entry = kept_axes._entry([0], torch.zeros(2))
    assert (entry["share"], entry["gini"]) == (None, 0.0)


def test_experts_are_ranked_by_mean_outputs() -> None:
    tensors = {
        "1.mlp.experts.expert_l2_scores": torch.tensor([6.0, 2.0, 0.0]),
        "1.mlp.experts.expert_sample_counts": torch.tensor([3.0, 2.0, 0.0]),
    }
    assert kept_axes.expert_importance(tensors, 1).tolist() == pytest.approx([2.0, 1.0, 0.0])
    axes = kept_axes.describe_axes({"num_experts": {1: [0, 2]}}, None, {}, tensors, heads=2)
    entry = axes["num_experts"]["1"]
    assert (entry["of"], entry["count"], entry["ranges"], entry["share"]) == (3, 2, "0, 2", pytest.approx(2 / 3))


def test_channels_of_experts_tell_the_worst_of_them() -> None:
    tensors = {
        "1.mlp.experts.local_experts.0": torch.tensor([1.0, 1.0]),
        "1.mlp.experts.local_experts.2": torch.tensor([0.0, 16.0]),
        "1.mlp.experts.local_experts.3": torch.tensor([0.0, 0.0]),
    }
    kept = {2: [1], 0: [0], 3: [0]}
    entry = kept_axes.describe_axes({"ffn_hidden_size": {1: kept}}, None, {}, tensors, heads=2)["ffn_hidden_size"]["1"]
    assert entry["share"] == 0.5 and entry["ranges"] == "differs in 3 experts"
    assert (entry["of"], entry["count"], entry["gini"]) == (2, 1, 0.0)
    assert entry["experts"] == {"0": "0", "2": "1", "3": "0"}


def parameter(kept: Any, largest: int) -> Any:
    return SimpleNamespace(active_slice=kept, max=largest)


def test_slices_and_orders_are_indices() -> None:
    assert kept_axes._order(parameter(slice(2), 4)) == [0, 1]
    assert kept_axes._order(parameter(torch.tensor([3, 1]), 4)) == [3, 1]
    assert kept_axes._active(parameter(torch.tensor([3, 1]), 4)) == [1, 3]


def test_experts_are_in_the_cut_models_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """And their channels follow them."""
    experts = [SimpleNamespace(get_hparam=lambda name, kept=kept: parameter(kept, 4)) for kept in ([2, 0], [1, 3])]
    experts[0].get_hparam = lambda name: parameter(torch.tensor([2, 0]), 4)
    experts[1].get_hparam = lambda name: parameter(torch.tensor([1, 3]), 4)
    mlp = SimpleNamespace(
        get_hparam=lambda name: parameter(torch.tensor([5, 1]), 6), experts=SimpleNamespace(local_experts=experts)
    )
    attention = SimpleNamespace(get_hparam=lambda name: parameter(torch.tensor([1, 0]), 2))
    layer = SimpleNamespace(mlp=mlp, self_attention=attention)
    dynamic = SimpleNamespace(
        get_hparam=lambda name: parameter(torch.tensor([4, 2]), 6), decoder=SimpleNamespace(layers=[layer])
    )
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda box, local: box.__setitem__(0, local))
    axes = ("hidden_size", "ffn_hidden_size", "num_experts", "num_attention_heads", "num_layers")
    assert kept_axes.kept_indices(dynamic, axes, [7]) == {
        "hidden_size": [2, 4],
        "ffn_hidden_size": {7: {5: [0, 2], 1: [1, 3]}},
        "num_experts": {7: [1, 5]},
        "num_attention_heads": {7: [0, 1]},
    }
