"""The engine `nemo`: the stages as NeMo 2's own scripts run them, in NVIDIA's container, with what those scripts can
and cannot be told.

A stage made by it has `engine: nemo` in its identity, so that it is never taken for one that Megatron-Core made.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from conf.stages.distill import DistillConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.prune import PruneConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.training import Training

Engine = Literal["megatron", "nemo"]

FIXED: dict[str, float | str] = {
    "weight_decay": 0.01,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "clip_grad": 1.0,
    "precision": "bf16",
    "seed": 1234,
}
"""What gpt_train takes from the defaults of Megatron's OptimizerConfig and of NeMo's data module, and has no argument
for."""


class NemoTeacher(TeacherConfig):
    """The teacher, fine-tuned by gpt_train."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")


class NemoPrune(PruneConfig):
    """A student cut by gpt_prune, which measures importance itself."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")
    importance: ImportanceConfig | None = Field(
        default=None, description="Samples that rank; empty where layers are named."
    )


class NemoDistill(DistillConfig):
    """A student taught by gpt_train with --teacher_path."""

    engine: Literal["nemo"] = Field(default="nemo", description="Made by NeMo's scripts.")


def teacher(config: TeacherConfig) -> TeacherConfig:
    """The teacher stage under the engine; a model that is only imported is the same under both."""
    return NemoTeacher.model_validate(config.model_dump()) if config.steps else config


def prune(config: PruneConfig, importance: ImportanceConfig) -> NemoPrune:
    """The prune stage under the engine."""
    return NemoPrune.model_validate(
        config.model_dump() | {"importance": importance.model_dump() if config.ranked else None}
    )


def distill(config: DistillConfig) -> NemoDistill:
    """The distill stage under the engine."""
    return NemoDistill.model_validate(config.model_dump())


def check_training(where: str, config: Training) -> None:
    """Refuse settings that gpt_train would not follow; `where` begins the sentence."""
    wrong = {name: value for name, value in FIXED.items() if getattr(config, name) != value}
    if wrong:
        settings = " ".join(f"{where}.{name}={value}" for name, value in wrong.items())
        name = next(iter(wrong))
        raise ValueError(
            f"{where}.{name} is {getattr(config, name)}, but engine nemo's gpt_train has {wrong[name]} and no argument"
            f" for it; state what it does: {settings}"
        )
    if config.validate_every > config.steps:
        raise ValueError(
            f"{where}.validate_every is {config.validate_every}, more than its {config.steps} steps, but engine nemo's"
            " gpt_train saves at validations only; choose fewer"
        )
    if config.parallel.recompute:
        raise ValueError(
            f"{where}.parallel.recompute is true, which engine nemo's gpt_train has no argument for; leave it out"
        )


def check_distill(where: str, config: DistillConfig) -> None:
    """Refuse ways of teaching that gpt_train does not have: it minimises KL(teacher || student) over the whole
    vocabulary alone."""
    only: dict[str, object] = {
        "loss": "forward_kl",
        "temperature": 1.0,
        "top_k": None,
        "rest_bucket": False,
        "offline": False,
        "intermediate": (),
        "ce_share": 0.0,
        "patience": None,
        "evaluate_every": None,
    }
    for name, value in only.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{where}.{name} is {getattr(config, name)}, which engine nemo's gpt_train does not do; leave it out or"
                " use engine megatron"
            )
    if config.keep == "best" and config.best_by != "val_loss":
        raise ValueError(
            f"{where}.best_by is {config.best_by}, but engine nemo's gpt_train keeps the best by val_loss; choose that"
            " or keep: last"
        )


def check_prune(where: str, config: PruneConfig) -> None:
    """Refuse cuts that gpt_prune does not make."""
    if config.ranking != "activation" or config.reinitialize:
        told = f"ranking is {config.ranking}" if config.ranking != "activation" else "reinitialize is true"
        raise ValueError(
            f"{where}.{told}, which engine nemo's gpt_prune does not do; leave it out or use engine megatron"
        )
    if config.drop_layers and config.ranked:
        other = next(iter(config.ranked))
        raise ValueError(
            f"{where} has drop_layers and {other}, which engine nemo's gpt_prune does not do at once; give one of them,"
            " or num_layers"
        )
