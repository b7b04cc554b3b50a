"""Bytes of a model that only runs forward, with the matrices of its layers in FP8 (jobs/megatron/teacher_weights.py):
pure functions of dimensions and layout. tests/jobs/test_memory.py measures them on the CPU."""

from __future__ import annotations

from conf.estimate.passes import ForwardPass
from conf.parallel import Parallel
from conf.shape import Shape, expert_matrices, head_dim, layer_matrices


def saved(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Bytes that FP8 saves on one rank against weights in the precision of `batch`: of a parameter of these matrices
    one is left, and of each output a scale in that precision."""
    elsewhere = expert_matrices(shape) - expert_matrices(shape) // parallel.expert
    matrices = (layer_matrices(shape) - elsewhere) // parallel.tensor
    experts = (shape.num_experts or 1) // parallel.expert
    split = head_dim(shape) * (shape.num_attention_heads + 2 * shape.num_query_groups)
    split += experts * 2 * shape.ffn_hidden_size
    outputs = split // parallel.tensor + (1 + experts) * shape.hidden_size
    layers = shape.num_layers // parallel.pipeline
    return layers * ((batch.bytes - 1) * matrices - batch.bytes * outputs)


def widened(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Bytes of the matrices that are in the precision of `batch` at once: one, on a GPU those of all experts of a
    rank, which one product takes."""
    gated = 2 * shape.ffn_hidden_size
    if batch.device == "cuda":
        gated *= (shape.num_experts or 1) // parallel.expert
    joint = head_dim(shape) * (shape.num_attention_heads + 2 * shape.num_query_groups)
    return batch.bytes * shape.hidden_size * max(gated, joint) // parallel.tensor
