"""The objective of distillation: a divergence of the logits, losses between hidden states, and cross-entropy.

ModelOpt's distillation model runs the teacher beside the student and returns the hidden states of both; `fused_loss`
compares the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import modelopt.torch.distill as mtd
import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from modelopt.torch.distill.plugins.megatron import (
    DistillationConfig,
    HiddenStateCosineLoss,
    MSELoss,
    adjust_distillation_model_for_mcore,
    setup_distillation_config,
)
from torch.nn.modules.loss import _Loss

from conf.stages.distill import DistillConfig
from jobs.megatron import fused_loss as head
from jobs.megatron import mtp
from jobs.megatron.divergence import divergence_of
from jobs.megatron.fused_loss import Losses, LossWeights, Stored
from jobs.megatron.output_head import Head
from jobs.megatron.weights import PROJECTIONS

if TYPE_CHECKING:
    from jobs.megatron.batches import Batch


class _TeacherStates(_Loss):
    """Takes the place of ModelOpt's logits loss: passes on the teacher's last hidden states, since the heads are
    deferred."""

    def forward(self, student: Any, teacher: Any) -> torch.Tensor:
        """Outputs of both deferred output layers, ([length, batch, hidden], None) -> the teacher's [batch, length,
        hidden]."""
        states: torch.Tensor = teacher[0]
        return states.transpose(0, 1)


class _HiddenStateLoss(_Loss):
    """ModelOpt's loss between the outputs of two layers, with the student's projected to the teacher's width."""

    def __init__(self, student: GPTModel, kind: str, projection: torch.nn.Module | None) -> None:
        super().__init__()
        self.compare = {"cosine": HiddenStateCosineLoss, "mse": MSELoss}[kind](student.config)
        self.split = student.config.sequence_parallel
        # In a list, so that it is not a parameter of the loss: ModelOpt keeps those in a set, whose order differs by
        # rank.
        self.projection = [projection]

    def forward(self, student: Any, teacher: Any) -> torch.Tensor:
        """Outputs of two layers, ([length, batch, hidden], context) -> [batch, length]."""
        (states, targets), (project,) = (student[0], teacher[0]), self.projection
        if self.split:
            states, targets = head.gather_sequence(states), head.gather_sequence(targets)
        per_token, *_ = self.compare((states if project is None else project(states)).float(), targets.float())
        return per_token


def pair(student: GPTModel, teacher: GPTModel, config: DistillConfig) -> Any:
    """ModelOpt's distillation model around `student`, with the frozen `teacher` inside; both have deferred heads."""
    criterion: dict[tuple[str, str], Any] = {}
    if parallel_state.is_pipeline_last_stage():
        criterion[("output_layer", "output_layer")] = _TeacherStates()
        projections = [_projection(student, teacher, config.seed + index) for index in range(len(config.intermediate))]
        for chosen, projection in zip(config.intermediate, projections, strict=True):
            layers = (f"decoder.layers.{chosen.student_layer - 1}", f"decoder.layers.{chosen.teacher_layer - 1}")
            criterion[layers] = _HiddenStateLoss(student, chosen.loss, projection)
        if any(projections):
            student.add_module(PROJECTIONS, torch.nn.ModuleList(projection for projection in projections if projection))
    settings = setup_distillation_config(DistillationConfig(criterion=criterion), student.config, teacher.config)
    mode = {"teacher_model": teacher, "criterion": settings.criterion, "loss_balancer": settings.loss_balancer}
    model = mtd.convert(student, mode=[("kd_loss", mode)])
    adjust_distillation_model_for_mcore(model, settings)
    return model


def _projection(student: GPTModel, teacher: GPTModel, seed: int) -> torch.nn.Module | None:
    """A linear map from the student's width to the teacher's that starts as an isometry; None where the widths
    agree."""
    ours, theirs = student.config.hidden_size, teacher.config.hidden_size
    if ours == theirs:
        return None
    generator = torch.Generator().manual_seed(seed)
    project = torch.nn.Linear(ours, theirs, bias=False)
    torch.nn.init.orthogonal_(project.weight, generator=generator)
    parameter = next(student.parameters())
    return project.to(device=parameter.device, dtype=parameter.dtype)


@dataclass(frozen=True, kw_only=True)
class TeacherSignal:
    """The teacher's part for a batch: its head or its stored logits; the weighted mean of the losses between layers;
    and, where it was stored, its own weighted loss."""

    teacher: Head | Stored
    intermediate: torch.Tensor | None = None
    loss: torch.Tensor | None = None


TeacherSource = Callable[[Any, "Batch"], TeacherSignal]


def losses(model: Any, hidden: torch.Tensor, batch: Batch, *, config: DistillConfig, source: TeacherSource) -> Losses:
    """Losses in nats per token, weighted by `batch`: `objective`, which is minimised, and its parts `divergence`,
    `intermediate` (1 - cosine, or squared error), `loss` (the student's cross-entropy), `teacher_loss` (the teacher's)
    and those of heads beside the student, which learn from both in the same shares; in validation also `kl` (forward,
    whole vocabulary, temperature 1), which stored logits cannot give."""
    student, labels, weights = head.head(model, hidden), batch.labels.flatten(), batch.weights.flatten()
    signal = source(model, batch)
    teacher, intermediate = signal.teacher, signal.intermediate
    extra_losses = {} if intermediate is None else {"intermediate": intermediate}
    if signal.loss is not None:
        extra_losses["teacher_loss"] = signal.loss

    def compare(loss_weights: LossWeights, with_kl: bool) -> Losses:
        return head.losses(
            student, labels, weights, loss_weights, teacher=teacher, divergence=divergence_of(config), with_kl=with_kl
        )

    if config.ce_share == "balanced" or (intermediate is not None and config.intermediate_weight == "balanced"):
        with torch.no_grad():  # the weights depend on the losses' sizes, so compute these first
            sizes = {
                name: _all_reduce_sum(value)
                for name, value in compare(LossWeights(divergence=1.0, cross_entropy=1.0), with_kl=False).items()
            }
            intermediate_size = None if intermediate is None else _all_reduce_sum(intermediate.detach().clone())
        weight = (
            _ratio(sizes["divergence"], intermediate_size)
            if config.intermediate_weight == "balanced"
            else config.intermediate_weight
        )
        teacher_size = sizes["divergence"] + (0.0 if intermediate_size is None else weight * intermediate_size)
        loss_weights = (
            _balanced(sizes["loss"], teacher_size) if config.ce_share == "balanced" else _fixed(config.ce_share)
        )
    else:
        weight, loss_weights = config.intermediate_weight, _fixed(config.ce_share)
    values = compare(replace(loss_weights, z=config.z_loss), with_kl=not model.training)
    if config.mtp is not None:
        assert isinstance(teacher, Head), "heads and stored logits are refused together"
        how = mtp.Taught(mtp=config.mtp, weights=loss_weights, teacher=teacher, divergence=divergence_of(config))
        heads = mtp.losses(model, hidden, batch, how)
        values |= heads | {"objective": values["objective"] + heads["objective"]}
    if intermediate is not None:
        values["objective"] = values["objective"] + loss_weights.divergence * weight * intermediate
    return values | extra_losses


def running_teacher(model: Any, batch: Batch) -> TeacherSignal:
    """The teacher that ran beside the student, from the outputs ModelOpt kept of the last pass."""
    first, *intermediate = model.compute_kd_loss(skip_balancer=True).values()
    teacher = head.head(model.teacher_model, first)
    if not intermediate:
        return TeacherSignal(teacher=teacher)
    return TeacherSignal(
        teacher=teacher,
        # packed rows come back as one
        intermediate=torch.stack(
            [(each.reshape(batch.weights.shape) * batch.weights).sum() for each in intermediate]
        ).mean(),
    )


def _all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over the context-parallel ranks, each of which holds some of the tokens."""
    if parallel_state.get_context_parallel_world_size() > 1:
        torch.distributed.all_reduce(value, group=parallel_state.get_context_parallel_group())
    return value


def _fixed(ce_share: float | str) -> LossWeights:
    assert not isinstance(ce_share, str)
    return LossWeights(divergence=1 - ce_share, cross_entropy=ce_share)


def _balanced(cross_entropy: torch.Tensor, teacher_size: torch.Tensor) -> LossWeights:
    """As ModelOpt's LogitsAndIntermediatesLossBalancer: the teacher's losses are scaled to the size of the
    cross-entropy."""
    return LossWeights(divergence=_ratio(cross_entropy, teacher_size), cross_entropy=1.0)


def _ratio(target: torch.Tensor, size: torch.Tensor | None) -> torch.Tensor:
    assert size is not None
    return torch.where(size.detach() > 0, target.detach() / size.detach(), torch.ones_like(target))


def without_projections(model: Any) -> Any:
    """The model as it is saved: projections served only the loss."""
    if hasattr(model, PROJECTIONS):
        delattr(model, PROJECTIONS)
    return model
