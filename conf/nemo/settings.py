"""The engine `nemo`: stages run by NeMo 2's scripts in NVIDIA's container, and the settings that the scripts support.

Its stages have `engine: nemo` in their identity, so their keys differ from those of Megatron-Core.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from conf.hf_config import windows
from conf.rotary import rope
from conf.stages.distill import DistillConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.optimizer import Optimizer
from conf.stages.prune import PruneConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.training import Training

Engine = Literal["megatron", "nemo"]

ROPES = ("default", "dynamic", "llama3")
"""Kinds of rotary embedding that NeMo's importers read, or that change nothing."""

FIXED: dict[str, float | str] = {
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "clip_grad": 1.0,
    "precision": "bf16",
    "seed": 1234,
}
"""Settings without an argument in gpt_train: defaults of Megatron's OptimizerConfig and NeMo's data module."""


class NemoTeacher(TeacherConfig):
    """Teacher fine-tuned by gpt_train."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")


class NemoPrune(PruneConfig):
    """Student pruned by gpt_prune, which measures importance itself."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")
    importance: ImportanceConfig | None = Field(
        default=None, description="Calibration settings for ranking; empty with drop_layers."
    )


class NemoDistill(DistillConfig):
    """Student distilled by gpt_train with --teacher_path."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")


def teacher(config: TeacherConfig) -> TeacherConfig:
    """The teacher stage for engine nemo; a model that is only imported is the same for both engines."""
    return NemoTeacher.model_validate(config.model_dump()) if config.steps else config


def prune(config: PruneConfig, importance: ImportanceConfig) -> NemoPrune:
    """The prune stage for engine nemo."""
    return NemoPrune.model_validate(
        config.model_dump() | {"importance": importance.model_dump() if config.ranked else None}
    )


def distill(config: DistillConfig) -> NemoDistill:
    """The distill stage for engine nemo."""
    return NemoDistill.model_validate(config.model_dump())


def check_training(where: str, config: Training) -> None:
    """Raise ValueError for settings that gpt_train would ignore; `where` starts the message."""
    differing = {name: value for name, value in FIXED.items() if getattr(config, name) != value}
    if differing:
        settings = " ".join(f"{where}.{name}={value}" for name, value in differing.items())
        name = next(iter(differing))
        raise ValueError(
            f"{where}.{name} is {getattr(config, name)} but engine nemo's gpt_train always uses {differing[name]}; set"
            f" {settings}"
        )
    if config.validate_every > config.steps:
        raise ValueError(
            f"{where}.validate_every is {config.validate_every} but there are {config.steps} steps, and engine nemo's"
            f" gpt_train saves only at validations; choose at most {config.steps}"
        )
    for setting in _unsupported(config):
        raise ValueError(
            f"{where}.{setting}, which engine nemo's gpt_train does not support; remove it or use engine megatron"
        )
    if config.parallel.recompute:
        raise ValueError(
            f"{where}.parallel.recompute is true, which engine nemo's gpt_train does not support; remove it"
        )
    if config.parallel.expert > 1:
        raise ValueError(
            f"{where}.parallel.expert is {config.parallel.expert}, which engine nemo's gpt_train is not given; remove"
            " it"
        )
    if config.parallel.distributed_optimizer:
        raise ValueError(
            f"{where}.parallel.distributed_optimizer is true, which engine nemo's gpt_train decides itself; remove it"
        )


def _unsupported(config: Training) -> Iterator[str]:
    """Settings of a training that gpt_train does not have, with their values."""
    if config.schedule.name != "cosine":
        yield f"schedule is {config.schedule.name}"
    if config.optimizer != Optimizer():
        given = config.optimizer.model_dump(exclude_defaults=True)
        name = next(name for name in Optimizer.model_fields if name in given)
        yield f"optimizer.{name} is {given[name]}"
    if config.z_loss:
        yield f"z_loss is {config.z_loss:g}"
    if config.retry:
        yield "retry is set"
    if config.spikes:
        yield "spikes is set"
    if getattr(config, "mtp", None):
        yield "mtp is set"
    if getattr(config, "document_mask", False):
        yield "document_mask is true"
    if config.average:
        yield f"average is {config.average.kind}"


def check_distill(where: str, config: DistillConfig) -> None:
    """Raise ValueError for distillation settings that gpt_train does not support: it only minimises KL(teacher ||
    student) over the full vocabulary."""
    supported: dict[str, object] = {
        "loss": "forward_kl",
        "temperature": 1.0,
        "top_k": None,
        "rest_bucket": False,
        "offline": False,
        "teacher_weights": "full",
        "intermediate": (),
        "ce_share": 0.0,
        "patience": None,
        "evaluate_every": None,
    }
    for name, value in supported.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{where}.{name} is {getattr(config, name)}, which engine nemo's gpt_train does not support; remove it"
                " or use engine megatron"
            )
    if config.keep == "best" and config.best_by != "val_loss":
        raise ValueError(
            f"{where}.best_by is {config.best_by} but engine nemo's gpt_train keeps the best by val_loss; choose"
            " val_loss or keep: last"
        )


def check_prune(where: str, config: PruneConfig) -> None:
    """Raise ValueError for cuts that gpt_prune does not support."""
    if config.ranking != "activation" or config.reinitialize:
        setting = f"ranking is {config.ranking}" if config.ranking != "activation" else "reinitialize is true"
        raise ValueError(
            f"{where}.{setting}, which engine nemo's gpt_prune does not support; remove it or use engine megatron"
        )
    if config.num_query_groups:
        raise ValueError(
            f"{where}.num_query_groups is {config.num_query_groups}, but engine nemo's gpt_prune keeps all key-value"
            " heads; remove it or use engine megatron"
        )
    if config.drop_layers and config.ranked:
        other = next(iter(config.ranked))
        raise ValueError(
            f"{where} sets drop_layers and {other}, which engine nemo's gpt_prune does not combine; use one of them, or"
            " num_layers"
        )


def check_function(config: dict[str, Any], where: str) -> None:
    """Raise ValueError for what NeMo's importers leave out."""
    kind = rope(config).kind
    if kind not in ROPES:
        raise ValueError(f"{where} scales its rotary embedding by '{kind}', which engine nemo does not; use megatron")
    if any(windows(config, where)):
        raise ValueError(f"{where} has sliding windows, which engine nemo does not import; use engine megatron")
