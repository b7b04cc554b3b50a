"""Trains a student on its teacher's outputs: to its last step, or the first steps of it that others go on from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

from conf.parallel import Parallel
from conf.rotary import check_documents
from conf.spec import Spec
from conf.stages.distill import DistillConfig
from jobs.megatron import distillation, evaluation, inputs, mtp, teacher_weights, training, weights
from jobs.megatron import fused_loss as head
from jobs.megatron.early_stopping import Watch
from jobs.megatron.model import DTYPES, build
from jobs.megatron.objective import Objective
from jobs.megatron.parts import Part
from jobs.megatron.stored_teacher import StoredTeacher
from jobs.tokens.phased import splits_of
from jobs.tokens.windows import Split


def distil(spec: Spec, config: DistillConfig, device: torch.device, until: int | None = None) -> None:
    """Train the student of a distill job and write its model; with `until`, of a trunk job and write its state."""
    data, output = Path(spec.inputs["data"]), Path(spec.output)
    teacher_path, student_path = Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["student"]) / "model"
    beside = Parallel() if config.offline else config.parallel  # stored logits may come from another layout
    teacher_config = inputs.checked_model(teacher_path, data, beside, config.seq_length)
    student_config = inputs.checked_model(student_path, data, config.parallel, config.seq_length)
    inputs.check_vocabulary(teacher_config, student_config)
    for hf_config in (teacher_config, student_config):
        check_documents(hf_config, "distill", config)
    read = splits_of(data, config)
    student = build(student_config, config.parallel, config.precision, device)
    weights.load(student, student_path, student_config)
    head.defer(student)
    mtp.attach(student, student_config, config)
    if config.offline:
        inputs.check_logits(Path(spec.inputs["logits"]), teacher_path, data, document_mask=config.document_mask)
        model, objective = student, _objective(config, StoredTeacher(Path(spec.inputs["logits"]), config))
    else:
        teacher = teacher_weights.teacher(teacher_path, teacher_config, config, device)
        _check_teacher(teacher, teacher_config, config, read[1])
        model = distillation.pair(student, teacher, config)
        objective = _objective(config, distillation.running_teacher, model)
    watch = Watch(model, config, evaluation.evaluator(spec, config, model, student_config))
    trunk = Path(spec.inputs["trunk"]) if "trunk" in spec.inputs else None
    validation = training.train(
        model,
        student_config,
        config,
        objective,
        splits=read,
        output=output,
        watch=watch,
        part=Part(trunk=trunk, until=until),
    )
    if until:
        return
    weights.save(
        distillation.without_projections(model),
        output / "model",
        student_config,
        student_path,
        DTYPES[config.precision],
    )
    mtp.save(model, output, student_config, config, validation)


def _objective(config: DistillConfig, source: Any, model: Any = None) -> Any:
    """The objective with the teacher's part from `source`; `model` is ModelOpt's, where the teacher runs beside the
    student."""
    rows = config.micro_batch if config.document_mask else 1  # packed, a micro-batch is one sequence
    shapes = {"seq_length": config.seq_length * rows, "micro_batch_size": config.micro_batch // rows}
    return Objective(
        losses=functools.partial(distillation.losses, config=config, source=source),
        adjust_shapes=None
        if model is None
        else get_tensor_shapes_adjust_fn_for_distillation(model, decoder_seq_length=None, **shapes),
    )


def _check_teacher(teacher: Any, teacher_config: dict[str, Any], config: DistillConfig, validation: Split) -> None:
    """Refuse a teacher that hardly beats chance on the validation split: its weights did not load."""
    loss = training.evaluate(teacher, config, validation)["val_loss"]
    print(f"teacher validation loss {loss:.4f} nats per token")
    inputs.check_chance(loss, teacher_config["vocab_size"])
