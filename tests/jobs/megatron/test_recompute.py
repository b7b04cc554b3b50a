"""Recomputed layers keep nothing but their inputs, whatever a layer keeps for itself while it runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.megatron.recompute import recompute_layers


class Keeper(torch.nn.Module):
    """As a layer of Megatron-Core 0.19: it lets go of its input once it has ended, but recomputation stops before."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.mlp_norm_manager, self.begun = torch.nn.Linear(4, 4), None, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        self.begun += 1
        self.mlp_norm_manager = hidden * 2  # type: ignore[assignment]
        hidden = torch.tanh(self.linear(self.mlp_norm_manager))
        self.ended = self.begun
        self.mlp_norm_manager = None
        return hidden * 1


def trained(layer: Keeper) -> torch.Tensor:
    hidden = torch.arange(8.0).view(2, 4).requires_grad_()
    layer(hidden).sum().backward()
    assert hidden.grad is not None
    return hidden.grad


def recomputed(layer: Keeper) -> None:
    config: Any = SimpleNamespace(num_moe_experts=None)
    model: Any = SimpleNamespace(config=config, decoder=SimpleNamespace(layers=[layer]))
    recompute_layers(model)


def test_nothing_is_kept_where_recomputation_stops() -> None:
    plain, layer = Keeper(), Keeper()
    layer.load_state_dict(plain.state_dict())
    recomputed(layer)
    assert torch.equal(trained(layer), trained(plain))
    assert (layer.begun, layer.ended) == (2, 1), "computed again, but not to its end"
    assert layer.mlp_norm_manager is None


@pytest.mark.parametrize(("training", "gradients"), [(False, True), (True, False), (False, False)])
def test_what_is_not_trained_is_computed_once(training: bool, gradients: bool) -> None:
    layer = Keeper().train(training)
    recomputed(layer)
    with torch.set_grad_enabled(gradients):
        made = layer(torch.ones(2, 4))
    if gradients:
        made.sum().backward()
    assert layer.begun == layer.ended == 1
