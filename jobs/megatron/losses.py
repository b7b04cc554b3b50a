"""The KL divergence of distillation with its gradient worked out by hand, a few tokens at a time.

ModelOpt's LogitsKLLoss keeps about eight fp32 tensors of [tokens, vocabulary] for autograd; this keeps one, in the logits' own
precision. Same value, same place in ModelOpt's distillation model, tensor parallelism included.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core import parallel_state
from modelopt.torch.distill.plugins.megatron import LogitsKLLoss
from torch.distributed import ReduceOp

CHUNK_ELEMENTS = 2**22
"""Logits handled at once: small enough that a chunk's fp32 copies stay near the cache."""


class ChunkedKL(LogitsKLLoss):
    """Forward KL(teacher || student) per token, nats; drop-in for its base class."""

    def forward(self, predictions: Any, targets: Any) -> Any:
        """Student and teacher logits [length, batch, vocabulary of this rank] -> ModelOpt's triple with [batch, length]."""
        predictions, targets = self.pre_forward(predictions, targets)
        per_token = _KL.apply(predictions.flatten(0, 1), targets.flatten(0, 1), self._temperature)
        return self.post_forward(per_token.view(predictions.shape[:2]), tp_reduce=False)  # already summed over vocabulary shards


class _KL(torch.autograd.Function):
    """Rows of KL between softmax(teacher / T) and softmax(student / T); the gradient is (student - teacher probabilities) / T."""

    @staticmethod
    def forward(context: Any, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        tokens, vocabulary = student.shape
        rows = max(1, CHUNK_ELEMENTS // vocabulary)
        divergence = torch.empty(tokens, dtype=torch.float32, device=student.device)
        gradient = torch.empty_like(student) if student.requires_grad else None
        for start in range(0, tokens, rows):
            chunk = slice(start, start + rows)
            ours, ours_log = _softmax(student[chunk], temperature)
            theirs, theirs_log = _softmax(teacher[chunk], temperature)
            divergence[chunk] = _summed(torch.einsum("tv,tv->t", theirs, theirs_log.sub_(ours_log)))
            if gradient is not None:
                gradient[chunk] = ours.sub_(theirs).div_(temperature)
        context.save_for_backward(gradient)
        return divergence

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = context.saved_tensors
        return gradient * upstream[0][:, None].to(gradient.dtype), None, None


def _softmax(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and log-probabilities over the whole vocabulary, of which this rank holds a slice; fp32 [tokens, slice]."""
    logs = logits.float() / temperature
    highest = logs.amax(-1, keepdim=True)
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(highest, op=ReduceOp.MAX, group=parallel_state.get_tensor_model_parallel_group())
    logs -= highest
    exponentials = logs.exp()
    total = _summed(exponentials.sum(-1, keepdim=True))
    logs -= total.log()
    return exponentials.div_(total), logs


def _summed(partial: torch.Tensor) -> torch.Tensor:
    """The sum over vocabulary slices of all tensor-parallel ranks."""
    if parallel_state.get_tensor_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(partial, group=parallel_state.get_tensor_model_parallel_group())
    return partial
