"""The ranking by the weights' size, a baseline that needs no calibration text."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

Scores = dict[str, float]
Tensors = dict[str, torch.Tensor]

TOTALS, SAMPLES = "expert_l2_scores", "expert_sample_counts"
"""What ModelOpt sums of each expert: the norms of its weighted outputs, and its tokens."""


def magnitudes(model: GPTModel) -> tuple[Scores, Tensors]:
    """Squared norms of the weights that read each channel, and of each whole layer; collective over all pipeline
    stages."""
    scores: Scores = {}
    tensors: Tensors = {}
    for layer in model.decoder.layers:
        attention, mlp, number = layer.self_attention, layer.mlp, layer.layer_number
        reads = {
            "input_layernorm": attention.linear_qkv,
            "self_attention": attention.linear_proj,
        }
        experts = mlp.experts.local_experts if model.config.num_moe_experts else []
        if not experts:
            reads |= {"pre_mlp_layernorm": mlp.linear_fc1, "mlp": mlp.linear_fc2}
        squares = {site: linear.weight.detach().float().square() for site, linear in reads.items()}
        tensors |= {f"{number}.{site}": square.sum(0).cpu() for site, square in squares.items()}
        sums = [square.sum() for square in squares.values()]
        if experts:
            of_experts, totals = _expert_magnitudes(experts)
            tensors |= {f"{number}.mlp.experts.{site}": tensor for site, tensor in of_experts.items()}
            sums.append(totals.sum())
        scores[str(number)] = float(sum(sums))
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, (scores, tensors))
    return {key: value for part, _ in gathered for key, value in part.items()}, {
        key: value for _, part in gathered for key, value in part.items()
    }


def _expert_magnitudes(experts: Any) -> tuple[Tensors, torch.Tensor]:
    """The same of a layer's experts, under ModelOpt's names, and of each expert as a whole."""
    tensors: Tensors = {}
    totals = torch.zeros(len(experts))
    for number, expert in enumerate(experts):
        read, written = (part.weight.detach().float().square() for part in (expert.linear_fc2, expert.linear_fc1))
        tensors[f"local_experts.{number}"] = read.sum(0).cpu()
        totals[number] = float(read.sum() + written.sum())
    return tensors | {TOTALS: totals, SAMPLES: torch.ones(len(experts))}, totals
