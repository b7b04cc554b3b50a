"""Muon: momentum of each matrix, made orthogonal, as its step (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982).

torch.optim.Muon is the same for one process and whole matrices, but always iterates in bf16, in which two parallel
layouts of one run part at the first step, and steps a fused matrix as one; emerging-optimizers, which Megatron calls,
needs Python 3.12."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic: singular values from 0.01 to 1 end between about 0.7 and 1.2 after five iterations."""

ADAMW_RMS = 0.2
"""Root mean square of AdamW's usual step, in learning rates: with it, rates and weight decay carry over."""

MOMENT = "exp_avg"
"""The state of a matrix: the moving average of its gradients, which is Adam's first moment."""
LR_SCALE = "lr_scale"
"""What multiplies the learning rate of a group that AdamW steps beside Muon; a group without it has the rate itself."""

Split = Callable[[torch.Tensor], list[torch.Tensor]]
"""A stored parameter as views of its matrices: [rows, columns]; [a, b, columns], one matrix of a x b rows; or
[a, b, rows, columns], a x b matrices."""


def orthogonal(matrices: torch.Tensor, iterations: int, dtype: torch.dtype) -> torch.Tensor:
    """`matrices` [rows, columns] or [count, rows, columns], U S V^T each, as nearly U V^T, by Newton-Schulz iterations
    in `dtype`; zero stays zero."""
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype).view(-1, *matrices.shape[-2:])
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Steps matrices only. Groups may have `split`, the matrices that a parameter stores (default: itself), and `dim`,
    the dimension of those that is shared by the ranks of `ranks` (default: none is)."""

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        iterations: int,
        dtype: torch.dtype,
        ranks: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "split": lambda tensor: [tensor], "dim": None}
        super().__init__(groups, defaults)
        self.momentum, self.iterations, self.dtype, self.ranks = momentum, iterations, dtype, ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Step every parameter that has a gradient; collective over `ranks`."""
        assert closure is None, "the training loop computes the gradients"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._update(parameter, group)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """The step of one parameter for a learning rate of 1, against the descent."""
        state = self.state[parameter]
        if MOMENT not in state:
            state[MOMENT] = torch.zeros_like(parameter)
        average = state[MOMENT].lerp_(parameter.grad, 1 - self.momentum)
        update = parameter.grad.lerp(average, self.momentum)  # Nesterov's
        for view in group["split"](update):
            matrices = view if view.dim() == 2 else view.flatten(0, 1)
            dim = None if matrices.dim() == 3 else group["dim"]  # a head is whole on its rank
            whole = self._gathered(matrices, dim)
            scale = ADAMW_RMS * math.sqrt(max(whole.shape[-2:]))
            view.copy_(self._own(orthogonal(whole, self.iterations, self.dtype), dim).mul(scale).reshape(view.shape))
        return update

    def _gathered(self, part: torch.Tensor, dim: int | None) -> torch.Tensor:
        """The whole matrix of which every rank holds a part along `dim`."""
        if dim is None or self.ranks is None or self.ranks.size() == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.ranks.size())]
        torch.distributed.all_gather(parts, part.contiguous(), group=self.ranks)
        return torch.cat(parts, dim)

    def _own(self, whole: torch.Tensor, dim: int | None) -> torch.Tensor:
        """This rank's part of a whole matrix."""
        if dim is None or self.ranks is None or self.ranks.size() == 1:
            return whole
        return whole.chunk(self.ranks.size(), dim)[self.ranks.rank()]
