"""Checks that a parallel layout divides a model's shape.

Runs when a recipe is loaded, with the cluster's layouts applied, and again in jobs with the actual model.
"""

from __future__ import annotations

from conf.parallel import Parallel
from conf.shape import Shape, family
from conf.stages.training import Training


def check_layout(where: str, parallel: Parallel, shape: Shape, *, tokens: int | None = None, whose: str = "") -> None:
    """Raise ValueError if `parallel` (at `where` in the recipe) does not divide `shape` or sequences of `tokens`
    tokens. `whose` is added to the message, for instance " of the teacher"."""
    for axis in ("num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size"):
        size = getattr(shape, axis)
        if size and size % parallel.tensor:
            raise ValueError(
                f"{where}.tensor is {parallel.tensor}, which does not divide {axis} {size}{whose}; choose a divisor"
            )
    if shape.num_layers % parallel.pipeline:
        layers = f"{shape.num_layers} layers{whose}"
        raise ValueError(f"{where}.pipeline is {parallel.pipeline}, which does not divide {layers}; choose a divisor")
    if parallel.expert > 1:
        _check_division(where, parallel.expert, shape, whose)
    if tokens is not None:
        _check_tokens(where, parallel, tokens)


def _check_division(where: str, size: int, shape: Shape, whose: str) -> None:
    """Raise ValueError for experts that `size` ranks cannot divide."""
    if shape.num_experts is None:
        raise ValueError(f"{where}.expert is {size} but the model{whose} has no experts to divide; remove it")
    if shape.num_experts % size:
        raise ValueError(
            f"{where}.expert is {size}, which does not divide num_experts {shape.num_experts}{whose}; choose a divisor"
        )


def check_experts(where: str, config: Training, shape: Shape, whose: str = "") -> None:
    """Raise ValueError for training settings (at `where` in the recipe) that do not fit a mixture of experts, or fit
    nothing else."""
    if shape.num_experts is None:
        if config.expert_balance is not None:
            raise ValueError(
                f"{where}.expert_balance is {config.expert_balance:g} but the model{whose} has no experts; remove it"
            )
        return
    if config.parallel.tensor > 1 and not config.parallel.sequence:
        raise ValueError(
            f"{where}.parallel.tensor is {config.parallel.tensor} and the model{whose} mixes experts, which"
            " tensor-parallel ranks train only with sequence parallelism; set"
            f" {where}.parallel.sequence=true"
        )


def check_bound(where: str, config: Training, shape: Shape, whose: str = "") -> None:
    """Raise ValueError for a bound on attention logits that scaled weights would not give."""
    bound, row = config.optimizer.qk_clip, family(shape)
    if bound and row.qk_norm:
        raise ValueError(
            f"{where}.optimizer.qk_clip is {bound:g} but the model{whose} is a {row.title}, whose norms on queries and"
            " keys undo a scaling of their weights, and bound the logits themselves; remove it"
        )
    if bound and row.attention_cap:
        raise ValueError(
            f"{where}.optimizer.qk_clip is {bound:g} but the model{whose} is a {row.title}, which caps its attention"
            " scores; remove it"
        )


def _check_tokens(where: str, parallel: Parallel, tokens: int) -> None:
    chunks = 2 * parallel.context
    if parallel.context > 1 and tokens % chunks:
        raise ValueError(
            f"{where}.context is {parallel.context} but seq_length {tokens} is not a multiple of {chunks} (each rank"
            f" takes two parts of a sequence); choose {tokens // chunks * chunks or chunks}"
        )
    parts = parallel.context * parallel.tensor
    if parallel.sequence and tokens % parts:
        raise ValueError(
            f"{where}.sequence is true but seq_length {tokens} is not a multiple of tensor {parallel.tensor} x context"
            f" {parallel.context}; choose a multiple of {parts}"
        )
