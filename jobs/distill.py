"""Teaches a pruned student: ModelOpt's Megatron distillation, a divergence of the logits with a share of cross-entropy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.distill import DistillConfig
from conf.spec import Spec
from jobs.entry import main

if TYPE_CHECKING:
    import torch

CHANCE_MARGIN = 0.9
"""A teacher whose validation loss is above this share of ln(vocabulary) knows next to nothing: its weights did not load."""


def run(spec: Spec) -> None:
    """Inputs: teacher, student, data. Writes model/ and metrics.jsonl (val_divergence, val_kl, val_loss: nats per token)."""
    from jobs.megatron.host import machine

    config = DistillConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        _distill(spec, config, device)


def _distill(spec: Spec, config: DistillConfig, device: torch.device) -> None:
    import functools

    from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

    from jobs.megatron import inputs, training, weights
    from jobs.megatron.model import DTYPES, build

    data, output = Path(spec.inputs["data"]), Path(spec.output)
    teacher_path, student_path = Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["student"]) / "model"
    teacher_config = inputs.checked_model(teacher_path, data, config.parallel, config.seq_length)
    student_config = inputs.checked_model(student_path, data, config.parallel, config.seq_length)
    if teacher_config["vocab_size"] != student_config["vocab_size"]:
        raise ValueError(
            f"the teacher has {teacher_config['vocab_size']} vocabulary rows and the student {student_config['vocab_size']}; "
            "logits can only be compared over one vocabulary"
        )
    student = build(student_config, config.parallel, config.precision, device)
    weights.load(student, student_path, student_config)
    teacher = build(teacher_config, config.parallel, config.precision, device)
    weights.load(teacher, teacher_path, teacher_config)
    check_teacher(teacher, teacher_config, config, data)
    model, criterion = _pair(student, teacher, config)
    objective = training.Objective(
        losses=functools.partial(_losses, criterion=criterion, ce_share=config.ce_share),
        total="objective",
        adjust_shapes=get_tensor_shapes_adjust_fn_for_distillation(
            model, seq_length=config.seq_length, micro_batch_size=config.micro_batch, decoder_seq_length=None
        ),
    )
    training.train(model, student_config, config, objective, data=data, output=output)
    weights.save(model, output / "model", student_config, student_path, DTYPES[config.precision])


def check_teacher(teacher: Any, teacher_config: dict[str, Any], config: DistillConfig, data: Path) -> None:
    """Refuse a teacher that predicts hardly better than chance on the validation split: its weights did not load."""
    import math

    from jobs.megatron import training
    from jobs.windows import Windows

    loss = training.evaluate(teacher, config, Windows(data / "validation", config.seq_length))["val_loss"]
    chance = math.log(teacher_config["vocab_size"])
    print(f"teacher validation loss {loss:.4f} nats per token (chance: {chance:.4f})")
    if not loss < CHANCE_MARGIN * chance:
        raise ValueError(
            f"the teacher's validation loss is {loss:.3f} nats per token where guessing gives {chance:.3f}; "
            "its weights did not load or do not belong to this text: check teacher.model and the corpus"
        )


def _pair(student: Any, teacher: Any, config: DistillConfig) -> tuple[Any, Any]:
    """ModelOpt's distillation model around `student`, with the frozen `teacher` inside, and what compares their logits."""
    import modelopt.torch.distill as mtd
    from megatron.core import parallel_state
    from modelopt.torch.distill.plugins.megatron import (
        DistillationConfig,
        adjust_distillation_model_for_mcore,
        setup_distillation_config,
    )

    from jobs.megatron.losses import ChunkedDivergence, of_recipe

    compare = ChunkedDivergence(student.config, of_recipe(config))
    criterion = {("output_layer", "output_layer"): compare} if parallel_state.is_pipeline_last_stage() else {}
    settings = setup_distillation_config(
        DistillationConfig(skip_lm_loss=config.ce_share == 0, criterion=criterion), student.config, teacher.config
    )
    mode = {"teacher_model": teacher, "criterion": settings.criterion, "loss_balancer": settings.loss_balancer}
    model = mtd.convert(student, mode=[("kd_loss", mode)])
    adjust_distillation_model_for_mcore(model, settings)
    _spare_logits(model)
    return model, compare


def _spare_logits(model: Any) -> None:
    """Megatron's cross-entropy works in place on fp32 logits, the very tensor that ModelOpt keeps for the KL: give it a copy."""
    import torch

    inner = model.compute_language_model_loss

    def compute(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return inner(labels, logits.clone() if logits.dtype == torch.float32 else logits)

    model.compute_language_model_loss = compute


def _losses(model: Any, per_token: torch.Tensor, *, criterion: Any, ce_share: float) -> dict[str, torch.Tensor]:
    """Divergence and cross-entropy in nats per token, and what is minimised: (1 - ce_share) x divergence + ce_share x cross-entropy.
    While validating also `kl`, the forward KL over the whole vocabulary at temperature 1."""
    parts = model.compute_kd_loss(loss_reduction_fn=_mean_over_tokens, skip_balancer=True)
    (divergence,) = parts.values()
    cross_entropy = per_token.float().mean()
    if model.training and ce_share == 0:  # ModelOpt leaves the student's own loss uncomputed while it is not needed
        return {"divergence": divergence, "objective": divergence}
    losses = {"divergence": divergence, "loss": cross_entropy, "objective": (1 - ce_share) * divergence + ce_share * cross_entropy}
    return losses if model.training else losses | {"kl": criterion.kl}


def _mean_over_tokens(loss: tuple[torch.Tensor, bool, bool]) -> torch.Tensor:
    """Mean of a per-token loss [micro_batch, seq_length] in ModelOpt's triple."""
    per_token, partial, _ = loss
    assert not partial, "ChunkedDivergence sums over vocabulary shards itself"
    return per_token.mean()


if __name__ == "__main__":
    main(run)
