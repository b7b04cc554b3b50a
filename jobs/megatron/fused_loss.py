"""The output layer fused with the losses over its logits, a group of tokens at a time, so that no full logits are ever
held.

Megatron and ModelOpt compute [tokens, vocabulary] logits of student and teacher, and about eight fp32 tensors of that
size for the loss and its gradient. Here the model ends with its hidden states (`defer`), and `losses` multiplies a
group of them with the output weights, computes the losses in chunks of rows that fit the cache, and turns each group's
gradient into that of the hidden states and the weights before the next group. The gradient is computed during the
forward pass, so the weight of each token must be known by then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region, gather_from_sequence_parallel_region

from jobs.megatron import capping
from jobs.megatron.divergence import (
    KL,
    Divergence,
    TopKLogits,
    all_reduce_sum,
    at,
    compare_logits,
    covers_vocabulary,
    divergence_of_probabilities,
    full_divergence,
    log_sum,
    minus_one_hot,
    softmax,
    top_k_logits,
    z_loss,
)
from jobs.megatron.output_head import Head

GROUP_ELEMENTS, GROUP_TOKENS = 2**26, 1024
"""Logits of one model computed at once, at most: matrix products want many rows, and 2**26 logits in bf16 are 134
MB."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a group held in fp32 at once: on the CPU few enough that the copies stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights in the objective: of the divergence, of the cross-entropy, and of log(sum(exp(logits)))^2."""

    divergence: float | torch.Tensor
    cross_entropy: float | torch.Tensor
    z: float = 0.0


Stored = Callable[[slice], TopKLogits]
"""The teacher's stored top-k logits for a slice of tokens, where the teacher does not run."""

Losses = dict[str, torch.Tensor]


def defer(model: GPTModel) -> None:
    """Let `model` end with its last hidden states instead of logits, in the shape of the logits. For any pipeline
    stage."""
    if getattr(model, "output_layer", None) is None:
        return

    def states(hidden: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        # Under sequence parallelism every rank gets all tokens, and its part of their gradient, which `losses` sums
        # over the ranks.
        return gather_sequence(hidden) if model.config.sequence_parallel else hidden, None

    model.output_layer.forward, model.output_layer.deferred = states, True


def gather_sequence(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states [length, ...] gathered from the tensor-parallel ranks; their gradient is assumed equal on all
    ranks."""
    gathered: torch.Tensor = gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=False)
    return gathered


def head(model: GPTModel, hidden: torch.Tensor) -> Head:
    """The head of a deferred model over hidden states of any leading dimensions, which are flattened to tokens."""
    tied = model.share_embeddings_and_output_weights
    return Head(
        hidden=hidden.flatten(0, -2),
        weight=model.shared_embedding_or_output_weight() if tied else model.output_layer.weight,
        cap=getattr(model.output_layer, "cap", None),
    )


def losses(
    student: Head,
    labels: torch.Tensor,
    weights: torch.Tensor,
    loss_weights: LossWeights,
    *,
    teacher: Head | Stored | None = None,
    divergence: Divergence = KL,
    with_kl: bool = False,
) -> Losses:
    """Sums over the tokens [tokens] of their losses times `weights` [tokens]: `objective`, differentiable in the
    student's hidden states and output weights, and for the log `divergence`, `loss` (cross-entropy), `teacher_loss`,
    `kl` where `with_kl`, and `z_loss` where it has a weight.

    A divergence with weight 0 is left out unless `with_kl`. With stored logits the last two are unknown."""
    hidden = copy_to_tensor_model_parallel_region(student.hidden)
    objective, values = _Fused.apply(
        hidden, student.weight, _Task(labels, weights, loss_weights, student, teacher, divergence, with_kl)
    )
    return {"objective": objective, **values}


def top_k_targets(states: Head, labels: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """For each token [tokens]: ids [tokens, count] of the likeliest next ones in descending order, their logits minus
    the largest (fp16), the probability of all others (fp32), and the loss on its label (fp16). The same on every
    tensor-parallel rank."""
    parts = []
    slice_size, group_size = states.weight.shape[0], _group_size(states.weight)
    first = parallel_state.get_tensor_model_parallel_rank() * slice_size
    for start in range(0, len(labels), group_size):
        group = slice(start, start + group_size)
        logits = states.logits(group)
        rows = max(1, CHUNK_ELEMENTS[logits.device.type] // slice_size)
        for part, chunk_labels in zip(logits.split(rows), labels[group].split(rows), strict=True):
            chunk = states.capped(part)
            targets = top_k_logits(chunk, count, rest=True)
            assert targets.rest is not None
            values, ids = likeliest(
                targets.logits.masked_fill(~targets.inside, -math.inf), targets.indices + first, count
            )
            loss = -at(softmax(chunk)[1], chunk_labels)
            parts.append((ids, (values - values[:, :1]).half(), targets.rest.exp().squeeze(1), loss.half()))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def likeliest(values: torch.Tensor, ids: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of all tensor-parallel ranks' values [tokens, any], descending, with their ids."""
    size = parallel_state.get_tensor_model_parallel_world_size()
    group = parallel_state.get_tensor_model_parallel_group()
    if size > 1:
        gathered = [[torch.empty_like(local) for _ in range(size)] for local in (values, ids)]
        for shards, local in zip(gathered, (values, ids), strict=True):
            torch.distributed.all_gather(shards, local.contiguous(), group=group)
        values, ids = (torch.cat(shards, dim=1) for shards in gathered)
    values, order = values.topk(count, dim=1)
    return values, ids.gather(1, order)


@dataclass(frozen=True)
class _Task:
    labels: torch.Tensor
    weights: torch.Tensor
    loss_weights: LossWeights
    student: Head
    teacher: Head | Stored | None
    divergence: Divergence
    with_kl: bool


class _Fused(torch.autograd.Function):
    """Processes groups of rows; each leaves only the gradients of its hidden states and its part of the output weights'
    gradient."""

    @staticmethod
    def forward(context: Any, hidden: torch.Tensor, weight: torch.Tensor, task: _Task) -> tuple[torch.Tensor, Losses]:
        needs_gradient = any(context.needs_input_grad)
        d_hidden = torch.empty_like(hidden) if needs_gradient else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if needs_gradient else None
        totals: Losses = {}
        size = _group_size(weight)
        for start in range(0, len(hidden), size):
            group = slice(start, min(start + size, len(hidden)))
            logits = hidden[group] @ weight.t()
            for name, total in _group(logits, group, task, differentiate=needs_gradient).items():
                totals[name] = totals[name] + total if name in totals else total
            if d_hidden is not None and d_weight is not None:
                d_hidden[group] = logits @ weight
                if logits.dtype == torch.float32:
                    d_weight.addmm_(logits.t(), hidden[group])
                else:
                    d_weight += logits.t() @ hidden[group]
        context.save_for_backward(d_hidden, d_weight)
        shares = {
            "divergence": task.loss_weights.divergence,
            "loss": task.loss_weights.cross_entropy,
            "z_loss": task.loss_weights.z,
        }
        objective = torch.stack([totals[name] * share for name, share in shares.items() if name in totals]).sum()
        return objective, totals

    @staticmethod
    def backward(context: Any, *upstream: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        d_hidden, d_weight = context.saved_tensors
        return d_hidden * upstream[0].to(d_hidden.dtype), d_weight.mul_(upstream[0]), None


def _group_size(weight: torch.Tensor) -> int:
    """Tokens per group."""
    return min(GROUP_TOKENS, max(1, GROUP_ELEMENTS // weight.shape[0]))


def _group(logits: torch.Tensor, group: slice, task: _Task, *, differentiate: bool) -> Losses:
    """Weighted losses of a group from its student logits [rows, slice], which are overwritten by their gradient if
    `differentiate`."""
    student, teacher = task.student, task.teacher if isinstance(task.teacher, Head) else None
    theirs = teacher.logits(group) if teacher else None
    totals: Losses = {}
    rows = max(1, CHUNK_ELEMENTS[logits.device.type] // logits.shape[1])
    for start in range(0, len(logits), rows):
        chunk = slice(start, start + rows)
        token_slice = slice(group.start + start, min(group.start + start + rows, group.stop))
        weights = task.weights[token_slice]
        ours, z = student.capped(logits[chunk]), task.loss_weights.z
        squares = z_loss(ours.clone()) if z else None
        known = None if teacher is None or theirs is None else teacher.capped(theirs[chunk])
        values, gradient = _chunk(ours, known, token_slice, task)
        del ours, known
        if squares:
            values["z_loss"] = squares[0]
            gradient.add_(squares[1], alpha=z)
        for name, value in values.items():
            total = (value * weights).sum()
            totals[name] = totals[name] + total if name in totals else total
        if differentiate:
            if student.cap is not None:
                gradient.mul_(capping.slope(logits[chunk], student.cap))
            logits[chunk] = gradient.mul_(weights[:, None])
    return totals


def _chunk(
    student: torch.Tensor, teacher: torch.Tensor | None, token_slice: slice, task: _Task
) -> tuple[Losses, torch.Tensor]:
    """Losses [rows] and the objective's gradient in the student's logits, from fp32 logits [rows, slice] of both, which
    may be overwritten."""
    loss_weights, divergence, labels = task.loss_weights, task.divergence, task.labels[token_slice]
    needs_divergence = task.teacher is not None and (_is_nonzero(loss_weights.divergence) or task.with_kl)
    if (
        needs_divergence
        and teacher is not None
        and divergence.temperature == 1
        and covers_vocabulary(divergence, teacher)
    ):
        return _chunk_without_temperature(student, teacher, labels, task)
    values: Losses = {}
    gradient: torch.Tensor | None = None
    if _is_nonzero(loss_weights.cross_entropy):
        ours, ours_log = softmax(student.clone() if needs_divergence else student)
        values["loss"] = -at(ours_log, labels)
        gradient = minus_one_hot(ours, labels).mul_(loss_weights.cross_entropy)
    else:
        values["loss"] = log_sum(student.clone()).squeeze(1) - at(student, labels)
    if teacher is not None:
        values["teacher_loss"] = log_sum(teacher.clone()).squeeze(1) - at(teacher, labels)
        if task.with_kl:
            values["kl"] = full_divergence(student.clone(), teacher.clone(), KL)[0]
    if needs_divergence:
        stored = None if isinstance(task.teacher, Head) or task.teacher is None else task.teacher(token_slice)
        value, slope = compare_logits(student, teacher, stored, divergence)
        values["divergence"] = value * divergence.scale
        slope = slope.mul_(loss_weights.divergence * divergence.scale / divergence.temperature)
        gradient = slope if gradient is None else gradient.add_(slope)
    assert gradient is not None
    return values, gradient


def _chunk_without_temperature(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, task: _Task
) -> tuple[Losses, torch.Tensor]:
    """The same where all losses use the same probabilities: at temperature 1 over the whole vocabulary."""
    loss_weights = task.loss_weights
    (ours, ours_log), (theirs, theirs_log) = softmax(student), softmax(teacher)
    values = {"loss": -at(ours_log, labels), "teacher_loss": -at(theirs_log, labels)}
    gradient = (
        minus_one_hot(ours.clone(), labels).mul_(loss_weights.cross_entropy)
        if _is_nonzero(loss_weights.cross_entropy)
        else None
    )
    if task.with_kl:
        values["kl"] = all_reduce_sum((theirs * (theirs_log - ours_log)).sum(-1))
    value, slope = divergence_of_probabilities(ours, ours_log, theirs, theirs_log, task.divergence)
    values["divergence"] = value * task.divergence.scale
    slope = slope.mul_(loss_weights.divergence * task.divergence.scale)
    return values, slope if gradient is None else gradient.add_(slope)


def _is_nonzero(share: float | torch.Tensor) -> bool:
    return isinstance(share, torch.Tensor) or share != 0
