"""What a training holds besides weights and gradients, in bytes: fp32 master weights of bf16 ones, AdamW's two moments
or Muon's one, the average of the weights. A distributed optimizer spreads all but the average over data-parallel
ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conf.estimate import heads
from conf.parallel import Parallel
from conf.shape import Shape, expert_matrices, head_dim, layer_matrices, num_params

if TYPE_CHECKING:
    from conf.stages.training import Training

FP32 = 4
"""Bytes per parameter of a master weight, of a moment and of an average."""


def single_moment(shape: Shape, parallel: Parallel, config: Training) -> int:
    """Parameters on one rank that have one moment: with Muon, the matrices inside layers and heads."""
    if config.optimizer.name != "muon":
        return 0
    layers = shape.num_layers // parallel.pipeline
    others = layers * (layer_matrices(shape) - expert_matrices(shape)) // parallel.tensor
    return others + of_experts(shape, parallel) + heads.matrices(shape, config, parallel.tensor)


def of_experts(shape: Shape, parallel: Parallel) -> int:
    """Parameters of experts on one rank."""
    layers = shape.num_layers // parallel.pipeline
    return layers * expert_matrices(shape) // (parallel.tensor * parallel.expert)


def held(params: int, shape: Shape, config: Training) -> int:
    """Bytes on one rank with `params` parameters; of experts that ranks divide, fewer share the states."""
    copies, averages = 3 if config.precision == "bf16" else 2, 1 if config.average else 0
    experts = copies * of_experts(shape, config.parallel) if config.parallel.expert > 1 else 0
    states = copies * params - single_moment(shape, config.parallel, config) - experts
    shared = -(-states // config.parallel.sharing) + -(-experts // config.parallel.sharing_experts)
    return FP32 * (averages * params + shared)


def in_checkpoint(shape: Shape, config: Training) -> int:
    """Bytes of a checkpoint's tensors, without the best weights: fp32 weights, moments, average."""
    copies = 3 + (1 if config.average else 0)
    params = num_params(shape) + heads.params(shape, config)
    return FP32 * (copies * params - single_moment(shape, Parallel(), config))


def stepping(params: int, shape: Shape, config: Training, *, foreach: bool) -> int:
    """Temporary bytes of a step on one rank. torch's foreach Adam, which runs on a GPU, computes the roots of all
    second moments at once. Muon's largest parameter takes its update, a whole matrix in fp32, and in the precision of
    the iteration the matrix, its product and two squares of its smaller side."""
    single = single_moment(shape, config.parallel, config)
    roots = FP32 * (params - single) // config.parallel.sharing if foreach else 0
    if not single:
        return roots
    hidden, ffn, wide = shape.hidden_size, shape.ffn_hidden_size, 2 if config.precision == "bf16" else FP32
    queries, keys = (head_dim(shape) * heads for heads in (shape.num_attention_heads, shape.num_query_groups))
    rows, stored = (ffn, 2 * ffn) if ffn > queries else (queries, queries + 2 * keys)
    squares = 2 * wide * min(rows, hidden) ** 2
    return max(roots, FP32 * hidden * stored // config.parallel.tensor + (FP32 + 2 * wide) * hidden * rows + squares)
