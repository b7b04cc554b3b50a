"""Distils a teacher into a pruned student: ModelOpt's Megatron distillation, a divergence of the logits plus the losses
of jobs/megatron/distillation.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Spec
from conf.stages.distill import DistillConfig
from jobs.nemo import run as nemo
from jobs.runtime.entry import main

if TYPE_CHECKING:
    import torch


def run(spec: Spec) -> None:
    """Inputs: teacher, student, data; logits when offline (the teacher is then known only by its digest); mmlu where
    evaluations in between ask questions from a folder. Writes model/, kept.json and metrics.jsonl (nats per token: the
    losses of jobs/megatron/distillation.py; from evaluations mmlu, test_loss, test_kl, test_agreement)."""
    if spec.config.get("engine") == "nemo":
        return nemo.run(spec)
    from jobs.megatron.device import machine

    config = DistillConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        _distill(spec, config, device)


def _distill(spec: Spec, config: DistillConfig, device: torch.device) -> None:
    from jobs.megatron import distillation, evaluation, inputs, training, weights
    from jobs.megatron import fused_loss as head
    from jobs.megatron.early_stopping import Watch
    from jobs.megatron.model import DTYPES, build
    from jobs.tokens.blend_reader import splits

    data, output = Path(spec.inputs["data"]), Path(spec.output)
    teacher_path, student_path = Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["student"]) / "model"
    teacher_config = inputs.checked_model(teacher_path, data, config.parallel, config.seq_length)
    student_config = inputs.checked_model(student_path, data, config.parallel, config.seq_length)
    inputs.check_vocabulary(teacher_config, student_config)
    student = build(student_config, config.parallel, config.precision, device)
    weights.load(student, student_path, student_config)
    head.defer(student)
    if config.offline:
        from jobs.megatron.stored_teacher import StoredTeacher

        inputs.check_logits(Path(spec.inputs["logits"]), teacher_path, data)
        model, objective = student, _objective(config, StoredTeacher(Path(spec.inputs["logits"]), config))
    else:
        teacher = build(teacher_config, config.parallel, config.precision, device)
        weights.load(teacher, teacher_path, teacher_config)
        head.defer(teacher)
        check_teacher(teacher, teacher_config, config, data)
        model = distillation.pair(student, teacher, config)
        objective = _objective(config, distillation.running_teacher, model)
    watch = Watch(model, config, evaluation.evaluator(spec, config, model, student_config))
    training.train(
        model, student_config, config, objective, splits=splits(data, config.seq_length), output=output, watch=watch
    )
    weights.save(
        distillation.without_projections(model),
        output / "model",
        student_config,
        student_path,
        DTYPES[config.precision],
    )


def _objective(config: DistillConfig, source: Any, model: Any = None) -> Any:
    """The objective with the teacher's part from `source`; `model` is ModelOpt's, where the teacher runs beside the
    student."""
    import functools

    from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

    from jobs.megatron import distillation, training

    shapes = {"seq_length": config.seq_length, "micro_batch_size": config.micro_batch, "decoder_seq_length": None}
    return training.Objective(
        losses=functools.partial(distillation.losses, config=config, source=source),
        adjust_shapes=None if model is None else get_tensor_shapes_adjust_fn_for_distillation(model, **shapes),
    )


def check_teacher(teacher: Any, teacher_config: dict[str, Any], config: DistillConfig, data: Path) -> None:
    """Refuse a teacher that hardly beats chance on the validation split: its weights did not load."""
    from jobs.megatron import inputs, training
    from jobs.tokens.windows import Windows

    loss = training.evaluate(teacher, config, Windows(data / "validation", config.seq_length))["val_loss"]
    print(f"teacher validation loss {loss:.4f} nats per token")
    inputs.check_chance(loss, teacher_config["vocab_size"])


if __name__ == "__main__":
    main(run)
