"""The output layer and the losses over its logits in one, a group of tokens at a time: nobody's whole logits are ever
held.

Megatron and ModelOpt compute [tokens, vocabulary] logits of student and teacher, and about eight fp32 tensors of that
size for the loss and its gradient. Here the model ends with its hidden states (`defer`), and `losses` multiplies a
group of them with the output weights, takes the losses a chunk of rows at a time near the cache, and turns each group's
gradient into that of the hidden states and the weights before the next group. The gradient is worked out on the way
forward, so the weight of each token must be known by then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region, gather_from_sequence_parallel_region

from jobs.megatron.divergence import (
    Divergence,
    TopKLogits,
    Valued,
    between,
    log_sum,
    over_all,
    over_kept,
    softmax,
    summed,
    top_k_logits,
)

GROUP_ELEMENTS, GROUP_TOKENS = 2**26, 1024
"""Logits of one model computed at once, at most: the matrix products want many rows, and 2**26 of them in bf16 are 134
MB."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a group made fp32 at once: on the CPU few enough that the copies stay in the cache."""

KL = Divergence()
"""What compares runs whatever they minimise: forward KL over the whole vocabulary at temperature 1."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Hidden states [tokens, hidden] and this rank's rows of the output weights [slice, hidden]."""

    hidden: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Shares of the divergence and of the cross-entropy in what is minimised."""

    divergence: float | torch.Tensor
    cross_entropy: float | torch.Tensor


Stored = Callable[[slice], TopKLogits]
"""The teacher's kept logits of a slice of tokens, where they were stored instead of the teacher being run."""

Losses = dict[str, torch.Tensor]


def defer(model: GPTModel) -> None:
    """Let `model` end with its last hidden states in place of logits, in the shape the logits would have. For any
    pipeline stage."""
    if getattr(model, "output_layer", None) is None:
        return

    def states(hidden: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        # Under sequence parallelism every rank gets all tokens, and of their gradient, which `losses` sums over the
        # ranks, its part.
        return whole(hidden) if model.config.sequence_parallel else hidden, None

    model.output_layer.forward = states


def whole(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states [length, ...] of which the tensor-parallel ranks hold parts; their gradient is taken to be the same
    on all ranks."""
    together: torch.Tensor = gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=False)
    return together


def head(model: GPTModel, hidden: torch.Tensor) -> Head:
    """The head of a deferred model over hidden states of any leading dimensions, which are flattened to tokens."""
    tied = model.share_embeddings_and_output_weights
    return Head(
        hidden=hidden.flatten(0, -2),
        weight=model.shared_embedding_or_output_weight() if tied else model.output_layer.weight,
    )


def losses(
    student: Head,
    labels: torch.Tensor,
    weights: torch.Tensor,
    mix: LossWeights,
    *,
    teacher: Head | Stored | None = None,
    how: Divergence = KL,
    everything: bool = False,
) -> Losses:
    """Sums over the tokens [tokens] of their losses times `weights` [tokens]: `objective`, differentiable in the
    student's hidden states and output weights, and for the log `divergence`, `loss` (cross-entropy), `teacher_loss`,
    and with `everything` also `kl`.

    A divergence that `mix` gives no share is left out unless `everything` is asked for. Stored logits know neither of
    the last two."""
    hidden = copy_to_tensor_model_parallel_region(student.hidden)
    objective, values = _Fused.apply(hidden, student.weight, _Task(labels, weights, mix, teacher, how, everything))
    return {"objective": objective, **values}


def top_k_targets(states: Head, labels: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """Of each token [tokens]: ids [tokens, count] of the likeliest next ones in falling order, their logits less the
    largest (fp16), the probability of all others (fp32), and the loss on its label (fp16). The same on every
    tensor-parallel rank."""
    parts = []
    slice_size, group_size = states.weight.shape[0], _group_size(states.weight)
    first = parallel_state.get_tensor_model_parallel_rank() * slice_size
    for start in range(0, len(labels), group_size):
        group = slice(start, start + group_size)
        logits = states.hidden[group] @ states.weight.t()
        rows = max(1, CHUNK_ELEMENTS[logits.device.type] // slice_size)
        for part, wanted in zip(logits.split(rows), labels[group].split(rows), strict=True):
            chunk = part.float()
            kept = top_k_logits(chunk, count, rest=True)
            assert kept.rest is not None
            values, ids = _likeliest(kept.logits.masked_fill(~kept.inside, -math.inf), kept.places + first, count)
            loss = -_at(softmax(chunk)[1], wanted)
            parts.append((ids, (values - values[:, :1]).half(), kept.rest.exp().squeeze(1), loss.half()))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _likeliest(values: torch.Tensor, ids: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of all tensor-parallel ranks' values [tokens, any], falling, with their ids."""
    size, group = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_group(),
    )
    if size > 1:
        everyone = [[torch.empty_like(mine) for _ in range(size)] for mine in (values, ids)]
        for box, mine in zip(everyone, (values, ids), strict=True):
            torch.distributed.all_gather(box, mine.contiguous(), group=group)
        values, ids = (torch.cat(box, dim=1) for box in everyone)
    values, order = values.topk(count, dim=1)
    return values, ids.gather(1, order)


@dataclass(frozen=True)
class _Task:
    labels: torch.Tensor
    weights: torch.Tensor
    mix: LossWeights
    teacher: Head | Stored | None
    how: Divergence
    everything: bool


class _Fused(torch.autograd.Function):
    """Groups of rows; each leaves only the gradients of its hidden states and its part of the output weights'
    gradient."""

    @staticmethod
    def forward(context: Any, hidden: torch.Tensor, weight: torch.Tensor, task: _Task) -> tuple[torch.Tensor, Losses]:
        wanted = any(context.needs_input_grad)
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wanted else None
        totals: Losses = {}
        size = _group_size(weight)
        for start in range(0, len(hidden), size):
            group = slice(start, min(start + size, len(hidden)))
            logits = hidden[group] @ weight.t()
            for name, total in _group(logits, group, task, differentiate=wanted).items():
                totals[name] = totals[name] + total if name in totals else total
            if d_hidden is not None and d_weight is not None:
                d_hidden[group] = logits @ weight
                if logits.dtype == torch.float32:
                    d_weight.addmm_(logits.t(), hidden[group])
                else:
                    d_weight += logits.t() @ hidden[group]
        context.save_for_backward(d_hidden, d_weight)
        shares = {"divergence": task.mix.divergence, "loss": task.mix.cross_entropy}
        objective = torch.stack([totals[name] * share for name, share in shares.items() if name in totals]).sum()
        return objective, totals

    @staticmethod
    def backward(context: Any, *upstream: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        d_hidden, d_weight = context.saved_tensors
        return d_hidden * upstream[0].to(d_hidden.dtype), d_weight.mul_(upstream[0]), None


def _group_size(weight: torch.Tensor) -> int:
    """Tokens of a group."""
    return min(GROUP_TOKENS, max(1, GROUP_ELEMENTS // weight.shape[0]))


def _group(logits: torch.Tensor, group: slice, task: _Task, *, differentiate: bool) -> Losses:
    """Weighted losses of a group whose student logits [rows, slice] are given; they are replaced by their gradient if
    that is wanted."""
    theirs = task.teacher.hidden[group] @ task.teacher.weight.t() if isinstance(task.teacher, Head) else None
    totals: Losses = {}
    rows = max(1, CHUNK_ELEMENTS[logits.device.type] // logits.shape[1])
    for start in range(0, len(logits), rows):
        chunk = slice(start, start + rows)
        here = slice(group.start + start, min(group.start + start + rows, group.stop))
        weights = task.weights[here]
        values, gradient = _chunk(logits[chunk].float(), None if theirs is None else theirs[chunk].float(), here, task)
        for name, value in values.items():
            total = (value * weights).sum()
            totals[name] = totals[name] + total if name in totals else total
        if differentiate:
            logits[chunk] = gradient.mul_(weights[:, None])
    return totals


def _chunk(
    student: torch.Tensor, teacher: torch.Tensor | None, here: slice, task: _Task
) -> tuple[Losses, torch.Tensor]:
    """Losses [rows] and the gradient of the mix in the student's logits; fp32 logits [rows, slice] of both, which may
    be used up."""
    mix, how, labels = task.mix, task.how, task.labels[here]
    compared = task.teacher is not None and (_counts(mix.divergence) or task.everything)
    if compared and teacher is not None and how.temperature == 1 and _is_whole(how, teacher):
        return _at_once(student, teacher, labels, task)
    values: Losses = {}
    gradient: torch.Tensor | None = None
    if _counts(mix.cross_entropy):
        ours, ours_log = softmax(student.clone() if compared else student)
        values["loss"] = -_at(ours_log, labels)
        gradient = _take_from(ours, labels).mul_(mix.cross_entropy)
    else:
        values["loss"] = log_sum(student.clone()).squeeze(1) - _at(student, labels)
    if teacher is not None:
        values["teacher_loss"] = log_sum(teacher.clone()).squeeze(1) - _at(teacher, labels)
        if task.everything:
            values["kl"] = over_all(student.clone(), teacher.clone(), KL)[0]
    if compared:
        stored = None if isinstance(task.teacher, Head) or task.teacher is None else task.teacher(here)
        value, slope = _compare(student, teacher, stored, how)
        values["divergence"] = value * how.scale
        slope = slope.mul_(mix.divergence * how.scale / how.temperature)
        gradient = slope if gradient is None else gradient.add_(slope)
    assert gradient is not None
    return values, gradient


def _at_once(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, task: _Task
) -> tuple[Losses, torch.Tensor]:
    """The same where every loss is of the same probabilities: at temperature 1 over the whole vocabulary."""
    mix = task.mix
    (ours, ours_log), (theirs, theirs_log) = softmax(student), softmax(teacher)
    values = {"loss": -_at(ours_log, labels), "teacher_loss": -_at(theirs_log, labels)}
    gradient = _take_from(ours.clone(), labels).mul_(mix.cross_entropy) if _counts(mix.cross_entropy) else None
    if task.everything:
        values["kl"] = summed((theirs * (theirs_log - ours_log)).sum(-1))
    value, slope = between(ours, ours_log, theirs, theirs_log, task.how)
    values["divergence"] = value * task.how.scale
    slope = slope.mul_(mix.divergence * task.how.scale)
    return values, slope if gradient is None else gradient.add_(slope)


def _compare(student: torch.Tensor, teacher: torch.Tensor | None, stored: TopKLogits | None, how: Divergence) -> Valued:
    """The divergence between logits, which are used up."""
    student = student.div_(how.temperature)
    if stored is not None:
        kept = TopKLogits(
            places=stored.places, inside=stored.inside, logits=stored.logits / how.temperature, rest=stored.rest
        )
        return over_kept(student, kept, how)
    assert teacher is not None
    teacher = teacher.div_(how.temperature)
    if _is_whole(how, teacher):
        return over_all(student, teacher, how)
    assert how.top_k is not None
    return over_kept(student, top_k_logits(teacher, how.top_k, rest=how.rest), how)


def _is_whole(how: Divergence, logits: torch.Tensor) -> bool:
    return how.top_k is None or how.top_k >= logits.shape[1] * parallel_state.get_tensor_model_parallel_world_size()


def _counts(share: float | torch.Tensor) -> bool:
    return isinstance(share, torch.Tensor) or share != 0


def _local(labels: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of labels in this rank's slice [tokens, 1], and which labels are in it."""
    first = parallel_state.get_tensor_model_parallel_rank() * size
    inside = (labels >= first) & (labels < first + size)
    return (labels - first).clamp(0, size - 1)[:, None], inside[:, None]


def _at(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """values[token, label of the token] -> [tokens], whichever rank holds the label."""
    places, inside = _local(labels, values.shape[1])
    return summed(values.gather(1, places).where(inside, 0).squeeze(1))


def _take_from(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """probabilities - one-hot(labels), in place: the gradient of cross-entropy."""
    places, inside = _local(labels, probabilities.shape[1])
    return probabilities.scatter_add_(1, places, -inside.to(probabilities.dtype))
