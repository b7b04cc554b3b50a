"""Divergences between teacher and student logits with their gradients worked out by hand, a few tokens at a time.

ModelOpt's LogitsKLLoss keeps about eight fp32 tensors of [tokens, vocabulary] for autograd; this keeps one, in the logits' own
precision. It takes that class's place in ModelOpt's distillation model. Under tensor parallelism each rank holds a slice of the
vocabulary; sums over the vocabulary are then sums over ranks.

With p the teacher's and q the student's probabilities, every divergence here is a sum over the vocabulary of d(p, q), and with
g = dd/dq its gradient in the student's logits is q x (g - sum(q g)) / temperature. `_terms` gives d and q g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from modelopt.torch.distill.plugins.megatron import LogitsKLLoss
from torch.distributed import ReduceOp

from conf.distill import DistillConfig, DistillLoss

CHUNK_ELEMENTS = 2**22
"""Logits handled at once: small enough that a chunk's fp32 copies stay near the cache."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Which divergence: its kind, the softmax temperature of both sides, and the tokens it looks at."""

    kind: DistillLoss = "forward_kl"
    temperature: float = 1.0
    scaled: bool = False
    top_k: int | None = None
    rest: bool = False


def of_recipe(config: DistillConfig) -> Divergence:
    """The divergence a recipe asks for."""
    return Divergence(
        kind=config.loss, temperature=config.temperature, scaled=config.scale_by_t2, top_k=config.top_k, rest=config.rest_bucket
    )


class ChunkedDivergence(LogitsKLLoss):
    """A divergence per token, nats; drop-in for its base class. While validating it also notes `kl`: forward KL over the whole
    vocabulary at temperature 1, which compares runs whatever they minimise."""

    def __init__(self, model_config: Any, how: Divergence) -> None:
        super().__init__(model_config, temperature=how.temperature)
        self.how = how
        self.kl: torch.Tensor | None = None

    def forward(self, predictions: Any, targets: Any) -> Any:
        """Student and teacher logits [length, batch, vocabulary of this rank] -> ModelOpt's triple with [batch, length]."""
        predictions, targets = self.pre_forward(predictions, targets)
        student, teacher = predictions.flatten(0, 1), targets.flatten(0, 1)
        per_token = divergence(student, teacher, self.how)
        if not torch.is_grad_enabled():
            self.kl = (per_token if self.how == Divergence() else divergence(student, teacher, Divergence())).mean()
        return self.post_forward(per_token.view(predictions.shape[:2]), tp_reduce=False)  # already summed over vocabulary shards


def divergence(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> torch.Tensor:
    """Divergence of each row of logits [tokens, vocabulary of this rank] -> fp32 [tokens], nats; differentiable in `student`."""
    per_token: torch.Tensor = _Chunked.apply(student, teacher, how)
    return per_token


class _Chunked(torch.autograd.Function):
    """Rows in chunks; the gradient is worked out on the way forward, so that no fp32 logits outlive their chunk."""

    @staticmethod
    def forward(context: Any, student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> torch.Tensor:
        tokens, vocabulary = student.shape
        rows = max(1, CHUNK_ELEMENTS // vocabulary)
        values = torch.empty(tokens, dtype=torch.float32, device=student.device)
        gradient = torch.empty_like(student) if student.requires_grad else None
        scale = how.temperature**2 if how.scaled else 1.0
        everything = how.top_k is None or how.top_k >= vocabulary * parallel_state.get_tensor_model_parallel_world_size()
        over = _over_all if everything else _over_top
        for start in range(0, tokens, rows):
            chunk = slice(start, start + rows)
            value, slope = over(student[chunk].float() / how.temperature, teacher[chunk].float() / how.temperature, how)
            values[chunk] = value * scale
            if gradient is not None:
                gradient[chunk] = slope.mul_(scale / how.temperature)
        context.save_for_backward(gradient)
        return values

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = context.saved_tensors
        return gradient * upstream[0][:, None].to(gradient.dtype), None, None


def _over_all(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> tuple[torch.Tensor, torch.Tensor]:
    """Value [tokens] and gradient [tokens, slice] over the whole vocabulary; the arguments are used up."""
    ours, ours_log = _softmax(student)
    theirs, theirs_log = _softmax(teacher)
    if how.kind == "forward_kl":  # the common case, spared two tensors
        return _summed(torch.einsum("tv,tv->t", theirs, theirs_log.sub_(ours_log))), ours.sub_(theirs)
    value, slope = _terms(how.kind, theirs, theirs_log, ours, ours_log)
    return _summed(value.sum(-1)), slope.sub_(ours.mul_(_summed(slope.sum(-1, keepdim=True))))


def _over_top(student: torch.Tensor, teacher: torch.Tensor, how: Divergence) -> tuple[torch.Tensor, torch.Tensor]:
    """The same on the teacher's `top_k` tokens: gathered before the softmax, or with all other tokens as one more bucket."""
    places, inside = _support(teacher, how.top_k or 1)
    ours_log, theirs_log = student.gather(1, places), teacher.gather(1, places)
    if how.rest:
        ours_whole, theirs_whole = _log_sum(student), _log_sum(teacher)
        ours_rest, theirs_rest = (
            _log_sum(logits.scatter(1, places, kept.masked_fill(inside, -math.inf))) - whole
            for logits, kept, whole in ((student, ours_log, ours_whole), (teacher, theirs_log, theirs_whole))
        )
    else:
        ours_whole, theirs_whole = (_log_sum(kept.masked_fill(~inside, -math.inf)) for kept in (ours_log, theirs_log))
    ours_log, theirs_log = ours_log - ours_whole, theirs_log - theirs_whole
    ours, theirs = ours_log.exp() * inside, theirs_log.exp() * inside
    value, slope = (term * inside for term in _terms(how.kind, theirs, theirs_log, ours, ours_log))
    total, mean = _summed(value.sum(-1)), _summed(slope.sum(-1, keepdim=True))
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


def _support(teacher: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in this rank's slice [tokens, <= count] that may be among the teacher's `count` largest logits, and which of them are."""
    values, places = teacher.topk(min(count, teacher.shape[1]), dim=-1)
    size, group = parallel_state.get_tensor_model_parallel_world_size(), parallel_state.get_tensor_model_parallel_group()
    if size == 1:
        return places, torch.ones_like(places, dtype=torch.bool)
    everyone = [torch.empty_like(values) for _ in range(size)]
    torch.distributed.all_gather(everyone, values.contiguous(), group=group)
    whole = torch.cat(everyone, dim=-1)
    chosen = torch.zeros_like(whole, dtype=torch.bool).scatter_(1, whole.topk(min(count, whole.shape[1]), dim=-1).indices, True)
    return places, chosen.chunk(size, dim=-1)[parallel_state.get_tensor_model_parallel_rank()]


def _softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and log-probabilities over the whole vocabulary, of which this rank holds a slice; works in place."""
    logs = logits.sub_(_highest(logits))
    exponentials = logs.exp()
    total = _summed(exponentials.sum(-1, keepdim=True))
    logs -= total.log()
    return exponentials.div_(total), logs


def _log_sum(logits: torch.Tensor) -> torch.Tensor:
    """log(sum(exp)) over the whole vocabulary, [tokens, 1]."""
    highest = _highest(logits)
    return _summed((logits - highest).exp().sum(-1, keepdim=True)).log() + highest


def _highest(logits: torch.Tensor) -> torch.Tensor:
    highest = logits.amax(-1, keepdim=True)
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(highest, op=ReduceOp.MAX, group=parallel_state.get_tensor_model_parallel_group())
    return highest


def _summed(partial: torch.Tensor) -> torch.Tensor:
    """The sum over vocabulary slices of all tensor-parallel ranks."""
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(partial, group=parallel_state.get_tensor_model_parallel_group())
    return partial
