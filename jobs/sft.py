"""Fine-tunes a model on packed records: cross-entropy on responses, with a divergence from a teacher beside it if one
is given."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Spec
from conf.stages.distill import DistillConfig
from conf.stages.sft import SftConfig
from jobs.runtime.entry import main

if TYPE_CHECKING:
    import torch

    from jobs.megatron.distillation import Source
    from jobs.megatron.training import Batch
    from jobs.tokens.packing import PackedRecords


def run(spec: Spec) -> None:
    """Inputs: student, records, and where kd_weight is not 0 teacher; logits when offline (the teacher is then known by
    its digest only). Writes model/, kept.json, metrics.jsonl and packing.json.

    Losses are nats per response token: loss (cross-entropy), divergence, objective; while validating also kl and
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

    records, output = Path(spec.inputs["records"]), Path(spec.output)
    path = Path(spec.inputs["student"]) / "model"
    hf_config = inputs.checked_model(path, records, config.parallel, config.seq_length)
    splits = _splits(records, config)
    student = build(hf_config, config.parallel, config.precision, device)
    weights.load(student, path, hf_config)
    head.defer(student)
    model, source, shapes = _beside(spec, config, student, hf_config, device)
    minimised = training.Objective(losses=functools.partial(losses, config=config, source=source), adjust_shapes=shapes)
    training.train(model, hf_config, config, minimised, splits=splits, output=output, watch=Watch(model, config))
    weights.save(model, output / "model", hf_config, path, DTYPES[config.precision])
    if torch.distributed.get_rank() == 0:
        # The model answers in the form it was taught, whichever template its tokenizer came with.
        shutil.copyfile(records / "chat_template.jinja", output / "model" / "chat_template.jinja")
        (output / "packing.json").write_text(json.dumps(_packing(splits[0], config), indent=2) + "\n")


def _beside(
    spec: Spec, config: SftConfig, student: Any, hf_config: dict[str, Any], device: torch.device
) -> tuple[Any, Source | None, Any]:
    """The model to train, what is known of the teacher for a batch, and what pipeline stages hand on; of both None
    without a teacher."""
    from modelopt.torch.distill.plugins.megatron import get_tensor_shapes_adjust_fn_for_distillation

    from jobs.megatron import distillation as objective
    from jobs.megatron import inputs
    from jobs.megatron.stored_teacher import Offline

    if not config.kd_weight:
        return student, None, None
    how, records = _as_distillation(config), Path(spec.inputs["records"])
    if config.offline:
        stored = Path(spec.inputs["logits"])
        inputs.check_logits(stored, Path(spec.inputs["teacher"]) / "model", records)
        return student, Offline(stored, how), None
    model = objective.pair(student, _teacher(spec, config, records, hf_config, device), how)
    shapes = get_tensor_shapes_adjust_fn_for_distillation(
        model, seq_length=config.seq_length * config.micro_batch, micro_batch_size=1, decoder_seq_length=None
    )
    return model, objective.teacher_beside, shapes


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
    """What was packed, and how often it was seen."""
    return {
        "records": len(train.records),
        "sequences": len(train),
        "efficiency": train.efficiency,
        "passes": config.steps * config.global_batch / len(train),
    }


def _teacher(spec: Spec, config: SftConfig, records: Path, student: dict[str, Any], device: torch.device) -> Any:
    """The teacher with a deferred head, after refusing one with another tokenizer, vocabulary or length."""
    from jobs.megatron import fused_loss as head
    from jobs.megatron import inputs, weights
    from jobs.megatron.model import build

    path = Path(spec.inputs["teacher"]) / "model"
    hf_config = inputs.checked_model(path, records, config.parallel, config.seq_length)
    inputs.check_vocabulary(hf_config, student)
    teacher = build(hf_config, config.parallel, config.precision, device)
    weights.load(teacher, path, hf_config)
    head.defer(teacher)
    return teacher


def _as_distillation(config: SftConfig) -> DistillConfig:
    """The same comparison in the words of the distill stage."""
    shared = {
        name: value for name, value in config.model_dump().items() if name not in ("kd_weight", "teacher", "offline")
    }
    return DistillConfig.model_validate(shared)


def losses(
    model: Any, hidden: torch.Tensor, batch: Batch, *, config: SftConfig, source: Source | None
) -> dict[str, torch.Tensor]:
    """Cross-entropy + kd_weight x divergence. Only tokens that are learned reach the output layers."""
    import torch

    from jobs.megatron import fused_loss as head
    from jobs.megatron.divergence import of_recipe

    counted = torch.nonzero(batch.weights.flatten()).flatten()
    if not len(counted):  # validation alone has passes of padding
        names = [
            "objective",
            "loss",
            *(["divergence", "teacher_loss"] if source else []),
            *(["kl"] if source and not config.offline else []),
        ]
        return {name: hidden.new_zeros((), dtype=torch.float32) for name in names}
    learned = dataclasses.replace(
        batch,
        **{
            name: getattr(batch, name).flatten()[counted]
            for name in ("addresses", "tokens", "labels", "weights", "positions")
        },
    )
    teacher, extra = None, {}
    if source:
        taught = source(model, learned if config.offline else batch)
        teacher = taught.teacher if config.offline else _part(taught.teacher, counted)
        extra = {"teacher_loss": taught.loss} if taught.loss is not None and not model.training else {}
    return extra | head.losses(
        _part(head.head(model, hidden), counted),
        learned.labels,
        learned.weights,
        head.LossWeights(divergence=config.kd_weight, cross_entropy=1.0),
        teacher=teacher,
        how=of_recipe(_as_distillation(config)),
        everything=not model.training,
    )


def _part(whole: Any, counted: torch.Tensor) -> Any:
    """The head over some tokens only."""
    from jobs.megatron.fused_loss import Head

    return Head(hidden=whole.hidden[counted], weight=whole.weight)


if __name__ == "__main__":
    main(run)
