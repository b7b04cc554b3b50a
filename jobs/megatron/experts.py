"""Mixtures of experts in Megatron-Core: their settings, routers that choose as another model chose, and the tensors in
which transformers keeps them.

Owns what differs from a dense model; the names of the weights are in `weights`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.moe import moe_utils
from megatron.core.transformer.moe.experts import SequentialMLP

from conf.checks.layout import check_experts
from conf.family import Experts
from conf.hf_model import shape_in
from conf.mixture import Mixture, mixture
from conf.parallel import Parallel
from conf.stages.training import Training

TIE = 1e-4
"""Difference of two experts' probabilities within which rounding decides between them."""

Choices = dict[int, torch.Tensor]
"""Number of a layer, from 1 -> the experts that its tokens took [sequences, length, experts of a token]."""


def settings(mixture: Mixture | None, parallel: Parallel, *, grouped: bool) -> dict[str, Any]:
    """Megatron's settings of a model with these experts. `grouped`: Transformer Engine computes all experts of a rank
    in one matrix product, and ranks send tokens only where they are taken; else one product comes after the other and
    ranks gather all tokens, which runs on every machine."""
    if mixture is None:
        return {}
    return {
        "num_moe_experts": mixture.count,
        "moe_ffn_hidden_size": mixture.width,
        "moe_router_topk": mixture.chosen,
        "moe_router_pre_softmax": not mixture.normalized,
        "moe_router_dtype": "fp32",
        "moe_router_load_balancing_type": "aux_loss",
        "moe_aux_loss_coeff": 0.0,
        "moe_token_dispatcher_type": "alltoall" if grouped else "allgather",
        "moe_grouped_gemm": grouped,
        "expert_model_parallel_size": parallel.expert,
    }


def first_of_rank(config: dict[str, Any]) -> int:
    """The number of the first expert of each layer that this rank holds; 0 of a dense model."""
    mixed, ranks = mixture(config), parallel_state.get_expert_model_parallel_world_size()
    return mixed.count // ranks * parallel_state.get_expert_model_parallel_rank() if mixed and ranks > 1 else 0


def divided(parameter: torch.nn.Parameter) -> bool:
    """Whether it belongs to an expert that only some of the data-parallel ranks hold."""
    return not getattr(parameter, "allreduce", True)


def one_by_one(model: GPTModel) -> bool:
    """Whether experts are computed one after the other, where those that no token takes get no gradient."""
    return any(isinstance(module, SequentialMLP) for module in model.modules())


def balance(model: GPTModel, hf_config: dict[str, Any], config: Training) -> None:
    """Add Megatron's loss that balances the experts of each layer to the training of `model`. Raises ValueError for
    settings that do not fit its experts, or a dense model."""
    check_experts(config.stage, config, shape_in(hf_config))
    mixed = mixture(hf_config)
    if mixed is None:
        return
    # Megatron logs the layers' losses in a global, which has the size of the first model that was trained in a process.
    tracker: Any = getattr(moe_utils, "get_moe_metrics_tracker", None)  # since 0.18
    (tracker().metrics if tracker else moe_utils.get_moe_layer_wise_logging_tracker()).clear()
    coefficient = config.expert_balance
    if coefficient is None:  # routers that have learned keep what they learned
        coefficient = mixed.balance if config.stage == "teacher" else 0.0
    model.config.moe_aux_loss_coeff = coefficient
    for layer in model.decoder.layers:
        layer.mlp.router.config.moe_aux_loss_coeff = coefficient


def forget_routing(layer: torch.nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Run `forward` of a layer with experts, then drop what its dispatcher remembers of the pass: the probabilities
    hold on to everything that was computed again for them, until the next pass."""
    try:
        return forward(*inputs, **named)
    finally:
        for name in ("routing_map", "probs", "local_map", "local_probs", "reversed_local_input_permutation_mapping"):
            setattr(layer.mlp.token_dispatcher, name, None)


@contextlib.contextmanager
def routed(model: GPTModel, choices: Choices) -> Iterator[None]:
    """Inside, where a router of `model` takes other experts for a token than `choices` says, and their probabilities
    are equal but for rounding, it takes those: two computations of one model may rank such experts differently, and
    would differ in all that follows."""

    def reroute(layer: int, router: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> Any:
        probs, chosen = output
        theirs = torch.zeros_like(chosen).scatter(1, choices[layer].transpose(0, 1).flatten(0, 1), True)
        scores = router.gating(inputs[0]).view(probs.shape).float().softmax(-1)
        least = scores.masked_fill(~theirs, torch.inf).amin(-1)
        tied = (chosen != theirs).any(-1) & (scores.masked_fill(~chosen, torch.inf).amin(-1) - least < TIE)
        weights = scores * theirs
        if not router.config.moe_router_pre_softmax:
            weights = weights / weights.sum(-1, keepdim=True)
        return torch.where(tied[:, None], weights.to(probs.dtype), probs), torch.where(tied[:, None], theirs, chosen)

    def hook(layer: int) -> Any:
        return lambda router, inputs, output: reroute(layer, router, inputs, output)

    layers = model.decoder.layers if choices else []
    hooks = [layer.mlp.router.register_forward_hook(hook(layer.layer_number)) for layer in layers]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def as_transformers_holds_them(
    read: Callable[[str], torch.Tensor], layer: str, name: str, experts: Experts, count: int
) -> torch.Tensor:
    """The parameter `name` of transformers' module `layer`: it holds all experts of a layer in two tensors, which its
    files hold one by one, and may call the mixture otherwise than they do."""
    if not name.startswith("mlp."):
        return read(f"{layer}.{name}")
    gate, up, down = experts.projections
    parts = {"mlp.experts.gate_up_proj": (gate, up), "mlp.experts.down_proj": (down,)}.get(name)
    if parts is None:
        return read(f"{layer}.{experts.module}.{name.removeprefix('mlp.')}")
    return torch.stack(
        [
            torch.cat([read(f"{layer}.{experts.module}.experts.{number}.{part}.weight") for part in parts])
            for number in range(count)
        ]
    )
