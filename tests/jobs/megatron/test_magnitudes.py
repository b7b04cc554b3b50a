"""The ranking by the size of the weights that read each channel, with matrices made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.megatron.magnitudes import magnitudes


def linear(*rows: list[float]) -> Any:
    return SimpleNamespace(weight=torch.tensor(rows))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda box, own: box.__setitem__(0, own))


def model(mlp: Any, experts: int | None = None) -> Any:
    attention = SimpleNamespace(linear_qkv=linear([1, 2], [3, 4]), linear_proj=linear([5.0], [0.0]))
    layer = SimpleNamespace(self_attention=attention, mlp=mlp, layer_number=3)
    return SimpleNamespace(decoder=SimpleNamespace(layers=[layer]), config=SimpleNamespace(num_moe_experts=experts))


def mlp_of(down: float) -> Any:
    return SimpleNamespace(linear_fc1=linear([1, 1], [2, 0]), linear_fc2=linear([down, 2.0]))


def test_channels_have_squares_of_what_reads_them() -> None:
    scores, tensors = magnitudes(model(mlp_of(3.0)))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "3.input_layernorm": [10, 20],
        "3.self_attention": [25],
        "3.pre_mlp_layernorm": [5, 1],
        "3.mlp": [9, 4],
    }
    assert scores == {"3": 30 + 25 + 6 + 13}


def test_experts_are_ranked_by_what_they_read_and_write() -> None:
    mlp = SimpleNamespace(experts=SimpleNamespace(local_experts=[mlp_of(3.0), mlp_of(1.0)]))
    scores, tensors = magnitudes(model(mlp, experts=2))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        "3.input_layernorm": [10, 20],
        "3.self_attention": [25],
        "3.mlp.experts.local_experts.0": [9, 4],
        "3.mlp.experts.local_experts.1": [1, 4],
        "3.mlp.experts.expert_l2_scores": [19, 11],
        "3.mlp.experts.expert_sample_counts": [1, 1],
    }
    assert scores == {"3": 30 + 25 + 19 + 11}
