"""Fine-tunes a model on packed records: cross-entropy on responses, plus a divergence from a teacher if one is
given."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.rotary import check_packed
from conf.spec import Spec
from conf.stages.distill import DistillConfig
from conf.stages.sft import SftConfig
from jobs.runtime import dropped_heads
from jobs.runtime.entry import main

if TYPE_CHECKING:
    import torch

    from jobs.megatron.batches import Batch
    from jobs.megatron.distillation import TeacherSource
    from jobs.tokens.packing import PackedRecords


def run(spec: Spec) -> None:
    """Inputs: student, records, and teacher unless kd_weight is 0; logits when offline (the teacher is then known only
    by its digest). Writes model/, kept.json, metrics.jsonl and packing.json.

    Losses are nats per response token: loss (cross-entropy), divergence, objective; in validation also kl and
    teacher_loss."""
    from jobs.megatron.device import machine

    config = SftConfig.model_validate(spec.config)
    with machine(config.parallel, config.seed) as device:
        _tune(spec, config, device)


def _tune(spec: Spec, config: SftConfig, device: torch.device) -> None:
    import torch.distributed

    from jobs.megatron import fused_loss as head
    from jobs.megatron import inputs, training, weights
    from jobs.megatron.early_stopping import Watch
    from jobs.megatron.model import DTYPES, build
    from jobs.megatron.objective import Objective

    records, output = Path(spec.inputs["records"]), Path(spec.output)
    path = Path(spec.inputs["student"]) / "model"
    hf_config = inputs.checked_model(path, records, config.parallel, config.seq_length)
    check_packed(hf_config, "seq_length", config.seq_length)
    splits = _splits(records, config)
    student = build(hf_config, config.parallel, config.precision, device)
    weights.load(student, path, hf_config)
    head.defer(student)
    model, source, shapes = _with_teacher(spec, config, student, hf_config, device)
    objective = Objective(losses=functools.partial(losses, config=config, source=source), adjust_shapes=shapes)
    training.train(model, hf_config, config, objective, splits=splits, output=output, watch=Watch(model, config))
    weights.save(model, output / "model", hf_config, path, DTYPES[config.precision])
    if torch.distributed.get_rank() == 0:
        # The model answers in the form it was trained on, whatever template its tokenizer came with.
        shutil.copyfile(records / "chat_template.jinja", output / "model" / "chat_template.jinja")
        why = "fine-tuning packs rows, on which heads do not learn"
        dropped = dropped_heads.tell(path.parent, output, why, config.steps)
        (output / "packing.json").write_text(json.dumps(_packing(splits[0], config) | dropped, indent=2) + "\n")


def _with_teacher(
    spec: Spec, config: SftConfig, student: Any, hf_config: dict[str, Any], device: torch.device
) -> tuple[Any, TeacherSource | None, Any]:
    """The model to train, the source of the teacher's part, and the shapes between pipeline stages; the last two are
    None without a running teacher."""
    from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

    from jobs.megatron import distillation, inputs
    from jobs.megatron.stored_teacher import StoredTeacher

    if not config.kd_weight:
        return student, None, None
    distill_config, records = _distill_config(config), Path(spec.inputs["records"])
    if config.offline:
        stored = Path(spec.inputs["logits"])
        inputs.check_logits(stored, Path(spec.inputs["teacher"]) / "model", records)
        return student, StoredTeacher(stored, distill_config), None
    model = distillation.pair(student, _teacher(spec, config, records, hf_config, device), distill_config)
    shapes = get_tensor_shapes_adjust_fn_for_distillation(
        model, seq_length=config.seq_length * config.micro_batch, micro_batch_size=1, decoder_seq_length=None
    )
    return model, distillation.running_teacher, shapes


def _splits(records: Path, config: SftConfig) -> tuple[PackedRecords, PackedRecords]:
    from jobs.tokens.packing import PackedRecords

    per_pass = config.micro_batch * config.parallel.data
    train = PackedRecords(records / "train", config.seq_length, config.seed)
    print(
        f"{len(train.records)} records packed into {len(train)} sequences of {config.seq_length} tokens,"
        f" {train.efficiency:.1%} full"
    )
    return train, PackedRecords(records / "validation", config.seq_length, config.seed, multiple=per_pass)


def _packing(train: PackedRecords, config: SftConfig) -> dict[str, Any]:
    """What was packed, and how many passes training made over it."""
    return {
        "records": len(train.records),
        "sequences": len(train),
        "efficiency": train.efficiency,
        "passes": config.steps * config.global_batch / len(train),
    }


def _teacher(spec: Spec, config: SftConfig, records: Path, student: dict[str, Any], device: torch.device) -> Any:
    """The teacher with a deferred head; refuses another tokenizer, vocabulary or length."""
    from jobs.megatron import inputs, teacher_weights

    path = Path(spec.inputs["teacher"]) / "model"
    hf_config = inputs.checked_model(path, records, config.parallel, config.seq_length)
    inputs.check_vocabulary(hf_config, student)
    return teacher_weights.teacher(path, hf_config, config, device)


def _distill_config(config: SftConfig) -> DistillConfig:
    """The same comparison as a config of the distill stage."""
    shared = {
        name: value for name, value in config.model_dump().items() if name not in ("kd_weight", "teacher", "offline")
    }
    return DistillConfig.model_validate(shared)


def losses(
    model: Any, hidden: torch.Tensor, batch: Batch, *, config: SftConfig, source: TeacherSource | None
) -> dict[str, torch.Tensor]:
    """Cross-entropy + kd_weight x divergence. Only learned tokens reach the output layers."""
    import torch

    from jobs.megatron import fused_loss as head
    from jobs.megatron.divergence import divergence_of

    learned_indices = torch.nonzero(batch.weights.flatten()).flatten()
    if not len(learned_indices):  # only validation has passes that are all padding
        names = [
            "objective",
            "loss",
            *(["divergence", "teacher_loss"] if source else []),
            *(["kl"] if source and not config.offline else []),
            *(["z_loss"] if config.z_loss else []),
        ]
        return {name: hidden.new_zeros((), dtype=torch.float32) for name in names}
    learned = dataclasses.replace(
        batch,
        **{
            name: getattr(batch, name).flatten()[learned_indices]
            for name in ("addresses", "tokens", "labels", "weights", "positions")
        },
    )
    teacher, extra_losses = None, {}
    if source:
        signal = source(model, learned if config.offline else batch)
        teacher = signal.teacher if config.offline else _select_tokens(signal.teacher, learned_indices)
        extra_losses = {"teacher_loss": signal.loss} if signal.loss is not None and not model.training else {}
    return extra_losses | head.losses(
        _select_tokens(head.head(model, hidden), learned_indices),
        learned.labels,
        learned.weights,
        head.LossWeights(divergence=config.kd_weight, cross_entropy=1.0, z=config.z_loss),
        teacher=teacher,
        divergence=divergence_of(_distill_config(config)),
        with_kl=not model.training,
    )


def _select_tokens(full_head: Any, learned_indices: torch.Tensor) -> Any:
    """The head over the selected tokens."""
    return dataclasses.replace(full_head, hidden=full_head.hidden[learned_indices])


if __name__ == "__main__":
    main(run)
