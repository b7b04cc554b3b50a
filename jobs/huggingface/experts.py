"""transformers' mixtures of experts with a module for each expert: it holds the matrices of all experts in two tensors,
in which ModelOpt finds no layers to quantize.

Owns the form in memory; files hold the experts one by one in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from conf.families import family_of
from conf.family import Experts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIXTURE = "mlp"
"""What every family's layers call their mixture in memory."""


class Expert(torch.nn.Module):
    """A gated MLP whose three matrices have the names of a family's files."""

    def __init__(self, names: tuple[str, str, str], gate_up: torch.Tensor, down: torch.Tensor, activation: Any) -> None:
        super().__init__()
        self.names, self.activation = names, activation
        for name, weight in zip(names, (*gate_up.chunk(2), down), strict=True):
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            linear.weight = torch.nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
            setattr(self, name, linear)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[tokens, hidden] -> [tokens, hidden]."""
        gate, up, down = (getattr(self, name) for name in self.names)
        output: torch.Tensor = down(self.activation(gate(inputs)) * up(inputs))
        return output


class SeparateExperts(torch.nn.ModuleList):
    """Same inputs and outputs as transformers' module of the experts of a layer; an expert that no token takes does not
    run."""

    def __init__(self, fused: Any, experts: Experts) -> None:
        parts = zip(fused.gate_up_proj, fused.down_proj, strict=True)
        super().__init__(Expert(experts.projections, gate_up, down, fused.act_fn) for gate_up, down in parts)
        self.num_experts = fused.num_experts

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """hidden [tokens, width]; chosen and weights [tokens, experts of a token]."""
        output = torch.zeros_like(hidden)
        for number, expert in enumerate(self):
            token, place = torch.where(chosen == number)
            if len(token):
                routed = expert(hidden[token]) * weights[token, place, None]
                output.index_add_(0, token, routed.to(output.dtype))
        return output


def separate(model: PreTrainedModel) -> PreTrainedModel:
    """`model`, changed in place to hold each expert as a module of its own; a dense model stays as it is."""
    experts = family_of(model.config.to_dict()).experts
    if experts is None:
        return model
    for layer in model.model.layers:
        mixture = getattr(layer, MIXTURE)
        mixture.experts = SeparateExperts(mixture.experts, experts)
    return model


def stored_name(name: str, experts: Experts | None) -> str:
    """The name in files of a tensor or module of a separated model."""
    return name.replace(f".{MIXTURE}.", f".{experts.module}.") if experts else name


def held_name(name: str, experts: Experts | None) -> str:
    """The name in a separated model of a tensor or module in files."""
    return name.replace(f".{experts.module}.", f".{MIXTURE}.") if experts else name


def mixture_of(name: str) -> str | None:
    """The layer's experts and the projection of an expert's matrix by its name, which engines run together; None for
    any other layer."""
    layer, experts, rest = name.partition(".experts.")
    return f"{layer}.experts.*.{rest.split('.', 1)[1]}" if experts else None
