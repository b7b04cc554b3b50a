"""Divergences between teacher and student over a vocabulary, with gradients derived by hand, for a chunk of tokens.

Under tensor parallelism each rank holds a slice of the vocabulary; sums over the vocabulary are then sums over ranks.

With p the teacher's and q the student's probabilities, every divergence here is a sum over the vocabulary of d(p, q),
and with g = dd/dq its gradient in the student's logits is q x (g - sum(q g)) / temperature. `_terms` gives d and q
g."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from megatron.core import parallel_state
from torch.distributed import ReduceOp

from conf.stages.distill import DistillConfig, DistillLoss


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Which divergence: its kind, the softmax temperature of both sides, and the tokens it covers."""

    kind: DistillLoss = "forward_kl"
    temperature: float = 1.0
    scaled: bool = False
    top_k: int | None = None
    rest: bool = False

    @property
    def scale(self) -> float:
        """The factor on the divergence."""
        return self.temperature**2 if self.scaled else 1.0


KL = Divergence()
"""Compares runs whatever they minimise: forward KL over the whole vocabulary at temperature 1."""


def divergence_of(config: DistillConfig) -> Divergence:
    """The divergence a recipe sets."""
    return Divergence(
        kind=config.loss,
        temperature=config.temperature,
        scaled=config.scale_by_t2,
        top_k=config.top_k,
        rest=config.rest_bucket,
    )


@dataclass(frozen=True, kw_only=True)
class TopKLogits:
    """The teacher's likeliest tokens in this rank's slice, each [tokens, <= top_k]: their indices in the slice, which
    of them count, their logits (up to a constant per token); and the log-probability of all other tokens [tokens, 1],
    where it is needed."""

    indices: torch.Tensor
    inside: torch.Tensor
    logits: torch.Tensor
    rest: torch.Tensor | None = None


ValueAndGradient = tuple[torch.Tensor, torch.Tensor]
"""A divergence [tokens] in nats, and its gradient [tokens, slice] in the student's logits over the temperature."""


def full_divergence(student: torch.Tensor, teacher: torch.Tensor, divergence: Divergence) -> ValueAndGradient:
    """Over the whole vocabulary, from fp32 logits [tokens, slice] of both divided by the temperature; overwrites
    them."""
    return divergence_of_probabilities(*softmax(student), *softmax(teacher), divergence)


def divergence_of_probabilities(
    ours: torch.Tensor, ours_log: torch.Tensor, theirs: torch.Tensor, theirs_log: torch.Tensor, divergence: Divergence
) -> ValueAndGradient:
    """The same from probabilities and their logarithms."""
    if divergence.kind == "forward_kl":  # the common case saves two tensors
        slope = ours.sub_(theirs)
        return all_reduce_sum(theirs.mul_(theirs_log.sub_(ours_log)).sum(-1)), slope
    value, slope = _terms(divergence.kind, theirs, theirs_log, ours, ours_log)
    return all_reduce_sum(value.sum(-1)), slope.sub_(ours.mul_(all_reduce_sum(slope.sum(-1, keepdim=True))))


def top_k_divergence(student: torch.Tensor, targets: TopKLogits, divergence: Divergence) -> ValueAndGradient:
    """The same on the teacher's `top_k` tokens: gathered before the softmax, or with all other tokens as one more
    bucket."""
    indices, inside, ours_log, theirs_log = (
        targets.indices,
        targets.inside,
        student.gather(1, targets.indices),
        targets.logits,
    )
    theirs_total = log_sum(theirs_log.masked_fill(~inside, -math.inf))
    if divergence.rest:
        assert targets.rest is not None, "the teacher's remaining probability is not known"
        ours_total, theirs_rest = log_sum(student.clone()), targets.rest
        ours_rest = log_sum(student.scatter(1, indices, ours_log.masked_fill(inside, -math.inf))) - ours_total
        theirs_total = theirs_total - torch.log1p(-theirs_rest.exp())  # the top k hold everything but the rest
    else:
        ours_total = log_sum(ours_log.masked_fill(~inside, -math.inf))
    ours_log, theirs_log = ours_log - ours_total, theirs_log - theirs_total
    ours, theirs = ours_log.exp() * inside, theirs_log.exp() * inside
    value, slope = (term * inside for term in _terms(divergence.kind, theirs, theirs_log, ours, ours_log))
    total, mean = all_reduce_sum(value.sum(-1)), all_reduce_sum(slope.sum(-1, keepdim=True))
    if not divergence.rest:
        return total, torch.zeros_like(student).scatter_(1, indices, slope - ours * mean)
    value, rest_slope = _terms(divergence.kind, theirs_rest.exp(), theirs_rest, ours_rest.exp(), ours_rest)
    mean = mean + rest_slope
    gradient = (student - ours_total).exp_().mul_(rest_slope / ours_rest.exp() - mean)
    outside = gradient.gather(1, indices)
    return total + value.squeeze(1), gradient.scatter_(1, indices, torch.where(inside, slope - ours * mean, outside))


def compare_logits(
    student: torch.Tensor, teacher: torch.Tensor | None, stored: TopKLogits | None, divergence: Divergence
) -> ValueAndGradient:
    """The divergence between unscaled logits [tokens, slice], from the teacher's logits or its stored top k; overwrites
    the logits."""
    student = student.div_(divergence.temperature)
    if stored is not None:
        if covers_vocabulary(divergence, student):
            divergence = replace(divergence, rest=False)  # nothing is left over
        targets = TopKLogits(
            indices=stored.indices,
            inside=stored.inside,
            logits=stored.logits / divergence.temperature,
            rest=stored.rest,
        )
        return top_k_divergence(student, targets, divergence)
    assert teacher is not None
    teacher = teacher.div_(divergence.temperature)
    if covers_vocabulary(divergence, teacher):
        return full_divergence(student, teacher, divergence)
    assert divergence.top_k is not None
    return top_k_divergence(student, top_k_logits(teacher, divergence.top_k, rest=divergence.rest), divergence)


def covers_vocabulary(divergence: Divergence, logits: torch.Tensor) -> bool:
    """Whether the divergence covers the whole vocabulary, of which `logits` [tokens, slice] are this rank's slice."""
    return (
        divergence.top_k is None
        or divergence.top_k >= logits.shape[1] * parallel_state.get_tensor_model_parallel_world_size()
    )


def _terms(
    kind: DistillLoss, p: torch.Tensor, p_log: torch.Tensor, q: torch.Tensor, q_log: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """d(p, q) and q x dd/dq for every token; constants in dd/dq change no gradient and are left out."""
    if kind == "forward_kl":
        return p * (p_log - q_log), -p
    if kind == "reverse_kl":
        value = q * (q_log - p_log)
        return value, value.clone()
    middle = torch.logaddexp(p_log, q_log) - math.log(2)
    slope = q * (q_log - middle) / 2
    return p * (p_log - middle) / 2 + slope, slope


def top_k_logits(teacher: torch.Tensor, count: int, *, rest: bool) -> TopKLogits:
    """The `count` largest logits of the whole vocabulary, from logits [tokens, slice]."""
    indices, inside = _support(teacher, count)
    logits = teacher.gather(1, indices)
    if not rest:
        return TopKLogits(indices=indices, inside=inside, logits=logits)
    remaining = teacher.scatter(1, indices, logits.masked_fill(inside, -math.inf))
    return TopKLogits(indices=indices, inside=inside, logits=logits, rest=log_sum(remaining) - log_sum(teacher.clone()))


def _support(teacher: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices in this rank's slice [tokens, <= count] that may be among the teacher's `count` largest logits, and which
    of them are."""
    values, indices = teacher.topk(min(count, teacher.shape[1]), dim=-1)
    size, group = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_group(),
    )
    if size == 1:
        return indices, torch.ones_like(indices, dtype=torch.bool)
    gathered = [torch.empty_like(values) for _ in range(size)]
    torch.distributed.all_gather(gathered, values.contiguous(), group=group)
    all_values = torch.cat(gathered, dim=-1)
    chosen = torch.zeros_like(all_values, dtype=torch.bool).scatter_(
        1, all_values.topk(min(count, all_values.shape[1]), dim=-1).indices, True
    )
    return indices, chosen.chunk(size, dim=-1)[parallel_state.get_tensor_model_parallel_rank()]


def softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and log-probabilities over the whole vocabulary, of which this rank holds a slice; in place."""
    logs = logits.sub_(_all_reduce_max(logits))
    exponentials = logs.exp()
    total = all_reduce_sum(exponentials.sum(-1, keepdim=True))
    logs -= total.log()
    return exponentials.div_(total), logs


def log_sum(logits: torch.Tensor) -> torch.Tensor:
    """log(sum(exp)) over the whole vocabulary, [tokens, 1], -inf where nothing is left of it; in place."""
    highest = _all_reduce_max(logits).clamp_(min=torch.finfo(logits.dtype).min)
    return all_reduce_sum(logits.sub_(highest).exp_().sum(-1, keepdim=True)).log_().add_(highest)


def z_loss(logits: torch.Tensor) -> ValueAndGradient:
    """log(sum(exp))^2 of the whole vocabulary [tokens], and its gradient [tokens, slice] in the logits; in place."""
    logs = log_sum(logits.clone())
    return logs.squeeze(1).square(), logits.sub_(logs).exp_().mul_(2 * logs)


def minus_one_hot(probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """probabilities [tokens, slice] - one-hot(labels [tokens]), in place: the gradient of cross-entropy."""
    indices, inside = _local(labels, probabilities.shape[1])
    return probabilities.scatter_add_(1, indices, -inside.to(probabilities.dtype))


def at(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """values[token, label of the token] -> [tokens], whichever rank's slice holds the label."""
    indices, inside = _local(labels, values.shape[1])
    return all_reduce_sum(values.gather(1, indices).where(inside, 0).squeeze(1))


def _local(labels: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices of labels in this rank's slice [tokens, 1], and which labels are in it."""
    first = parallel_state.get_tensor_model_parallel_rank() * size
    inside = (labels >= first) & (labels < first + size)
    return (labels - first).clamp(0, size - 1)[:, None], inside[:, None]


def _all_reduce_max(logits: torch.Tensor) -> torch.Tensor:
    highest = logits.amax(-1, keepdim=True)
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(highest, op=ReduceOp.MAX, group=parallel_state.get_tensor_model_parallel_group())
    return highest


def all_reduce_sum(partial: torch.Tensor) -> torch.Tensor:
    """The sum over the vocabulary slices of all tensor-parallel ranks."""
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(partial, group=parallel_state.get_tensor_model_parallel_group())
    return partial
