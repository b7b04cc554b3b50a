"""Divergences between teacher and student over a vocabulary, with their gradients worked out by hand, for a chunk of
tokens.

Under tensor parallelism each rank holds a slice of the vocabulary; sums over the vocabulary are then sums over ranks.

With p the teacher's and q the student's probabilities, every divergence here is a sum over the vocabulary of d(p, q),
and with g = dd/dq its gradient in the student's logits is q x (g - sum(q g)) / temperature. `_terms` gives d and q g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from megatron.core import parallel_state
from torch.distributed import ReduceOp

from conf.stages.distill import DistillConfig, DistillLoss


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Which divergence: its kind, the softmax temperature of both sides, and the tokens it looks at."""

    kind: DistillLoss = "forward_kl"
    temperature: float = 1.0
    scaled: bool = False
    top_k: int | None = None
    rest: bool = False

    @property
    def scale(self) -> float:
        """What the divergence is multiplied by."""
        return self.temperature**2 if self.scaled else 1.0


def of_recipe(config: DistillConfig) -> Divergence:
    """The divergence a recipe asks for."""
    return Divergence(
        kind=config.loss,
        temperature=config.temperature,
        scaled=config.scale_by_t2,
        top_k=config.top_k,
        rest=config.rest_bucket,
    )


@dataclass(frozen=True, kw_only=True)
class TopKLogits:
    """The teacher's likeliest tokens in this rank's slice, each [tokens, <= top_k]: their places in the slice, which of
    them count, their logits (up to a constant a token); and the log-probability of all tokens that are not kept
    [tokens, 1], where it is asked for."""

    places: torch.Tensor
    inside: torch.Tensor
    logits: torch.Tensor
    rest: torch.Tensor | None = None


Valued = tuple[torch.Tensor, torch.Tensor]
"""A divergence [tokens] in nats, and its gradient [tokens, slice] in the student's logits over the temperature."""


def over_all(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> Valued:
    """Over the whole vocabulary; fp32 logits [tokens, slice] of both, over the temperature; they are used up."""
    return between(*softmax(student), *softmax(teacher), how)


def between(
    ours: torch.Tensor, ours_log: torch.Tensor, theirs: torch.Tensor, theirs_log: torch.Tensor, how: Divergence
) -> Valued:
    """The same of probabilities and their logarithms."""
    if how.kind == "forward_kl":  # the common case, spared two tensors
        slope = ours.sub_(theirs)
        return summed(theirs.mul_(theirs_log.sub_(ours_log)).sum(-1)), slope
    value, slope = _terms(how.kind, theirs, theirs_log, ours, ours_log)
    return summed(value.sum(-1)), slope.sub_(ours.mul_(summed(slope.sum(-1, keepdim=True))))


def over_kept(student: torch.Tensor, kept: TopKLogits, how: Divergence) -> Valued:
    """The same on the teacher's `top_k` tokens: gathered before the softmax, or with all other tokens as one more
    bucket."""
    places, inside, ours_log, theirs_log = kept.places, kept.inside, student.gather(1, kept.places), kept.logits
    theirs_whole = log_sum(theirs_log.masked_fill(~inside, -math.inf))
    if how.rest:
        assert kept.rest is not None, "the teacher's remaining probability is not known"
        ours_whole, theirs_rest = log_sum(student.clone()), kept.rest
        ours_rest = log_sum(student.scatter(1, places, ours_log.masked_fill(inside, -math.inf))) - ours_whole
        theirs_whole = theirs_whole - torch.log1p(-theirs_rest.exp())  # the kept tokens hold all but the rest
    else:
        ours_whole = log_sum(ours_log.masked_fill(~inside, -math.inf))
    ours_log, theirs_log = ours_log - ours_whole, theirs_log - theirs_whole
    ours, theirs = ours_log.exp() * inside, theirs_log.exp() * inside
    value, slope = (term * inside for term in _terms(how.kind, theirs, theirs_log, ours, ours_log))
    total, mean = summed(value.sum(-1)), summed(slope.sum(-1, keepdim=True))
    if not how.rest:
        return total, torch.zeros_like(student).scatter_(1, places, slope - ours * mean)
    value, rest_slope = _terms(how.kind, theirs_rest.exp(), theirs_rest, ours_rest.exp(), ours_rest)
    mean = mean + rest_slope
    gradient = (student - ours_whole).exp_().mul_(rest_slope / ours_rest.exp() - mean)
    outside = gradient.gather(1, places)
    return total + value.squeeze(1), gradient.scatter_(1, places, torch.where(inside, slope - ours * mean, outside))


def _terms(
    kind: DistillLoss, p: torch.Tensor, p_log: torch.Tensor, q: torch.Tensor, q_log: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """d(p, q) and q x dd/dq of every token; a constant added to dd/dq changes no gradient and is left out."""
    if kind == "forward_kl":
        return p * (p_log - q_log), -p
    if kind == "reverse_kl":
        value = q * (q_log - p_log)
        return value, value.clone()
    middle = torch.logaddexp(p_log, q_log) - math.log(2)
    slope = q * (q_log - middle) / 2
    return p * (p_log - middle) / 2 + slope, slope


def top_k_logits(teacher: torch.Tensor, count: int, *, rest: bool) -> TopKLogits:
    """What is kept of logits [tokens, slice] when only the `count` largest of the whole vocabulary are."""
    places, inside = _support(teacher, count)
    logits = teacher.gather(1, places)
    if not rest:
        return TopKLogits(places=places, inside=inside, logits=logits)
    others = teacher.scatter(1, places, logits.masked_fill(inside, -math.inf))
    return TopKLogits(places=places, inside=inside, logits=logits, rest=log_sum(others) - log_sum(teacher.clone()))


def _support(teacher: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in this rank's slice [tokens, <= count] that may be among the teacher's `count` largest logits, and which
    of them are."""
    values, places = teacher.topk(min(count, teacher.shape[1]), dim=-1)
    size, group = (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_group(),
    )
    if size == 1:
        return places, torch.ones_like(places, dtype=torch.bool)
    everyone = [torch.empty_like(values) for _ in range(size)]
    torch.distributed.all_gather(everyone, values.contiguous(), group=group)
    whole = torch.cat(everyone, dim=-1)
    chosen = torch.zeros_like(whole, dtype=torch.bool).scatter_(
        1, whole.topk(min(count, whole.shape[1]), dim=-1).indices, True
    )
    return places, chosen.chunk(size, dim=-1)[parallel_state.get_tensor_model_parallel_rank()]


def softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and log-probabilities over the whole vocabulary, of which this rank holds a slice; works in
    place."""
    logs = logits.sub_(_highest(logits))
    exponentials = logs.exp()
    total = summed(exponentials.sum(-1, keepdim=True))
    logs -= total.log()
    return exponentials.div_(total), logs


def log_sum(logits: torch.Tensor) -> torch.Tensor:
    """log(sum(exp)) over the whole vocabulary, [tokens, 1]; works in place."""
    highest = _highest(logits)
    return summed(logits.sub_(highest).exp_().sum(-1, keepdim=True)).log_().add_(highest)


def _highest(logits: torch.Tensor) -> torch.Tensor:
    highest = logits.amax(-1, keepdim=True)
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(highest, op=ReduceOp.MAX, group=parallel_state.get_tensor_model_parallel_group())
    return highest


def summed(partial: torch.Tensor) -> torch.Tensor:
    """The sum over vocabulary slices of all tensor-parallel ranks."""
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(partial, group=parallel_state.get_tensor_model_parallel_group())
    return partial
