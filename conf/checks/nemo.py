"""Rejects settings that NeMo's scripts do not support in recipes with `engine: nemo`."""

from __future__ import annotations

from conf.families import FAMILIES
from conf.nemo import settings as nemo
from conf.recipe import Recipe
from conf.shape import Shape, family


def check_nemo(recipe: Recipe) -> None:
    """Raise ValueError for the first setting that the engine does not support."""
    if recipe.engine != "nemo":
        return
    unsupported = {
        "blend": recipe.blend,  # its scripts would be given one corpus
        "sweep": recipe.sweep,
        "logits": recipe.logits,
        "sft": recipe.sft,
        "generate": recipe.generate,
    }
    for name, stage in unsupported.items():
        if stage:
            raise ValueError(f"{name} is not supported by engine nemo; remove it or use engine megatron")
    if recipe.teacher.shape:
        raise ValueError(
            "teacher.shape is not supported by engine nemo, whose gpt_train needs trained weights; set teacher.model"
        )
    if recipe.teacher.steps:
        nemo.check_training("teacher", recipe.teacher)
    for name, student in recipe.students.items():
        where = f"students.{name}"
        for form in ("search", "rounds", "sft"):
            if getattr(student, form):
                raise ValueError(
                    f"{where}.{form} is not supported by engine nemo; use {where}.prune or engine megatron"
                )
        assert student.prune is not None, "the other two forms are rejected above"
        nemo.check_prune(f"{where}.prune", student.prune)
        if config := recipe.distill_of(name):
            distill_at = f"{where}.distill" if student.distill else "distill"
            nemo.check_distill(distill_at, config)
            nemo.check_training(distill_at, config)
    _check_samples(recipe)


def check_family(recipe: Recipe, teacher: Shape) -> None:
    """Raise ValueError for a teacher of a family that NeMo's scripts are not told to import."""
    if recipe.engine == "nemo" and family(teacher).nemo is None:
        able = " or ".join(row.title for row in FAMILIES.values() if row.nemo)
        raise ValueError(
            f"teacher.model is a {family(teacher).title} model, which engine nemo does not import; use engine megatron,"
            f" or a {able} model"
        )


def _check_samples(recipe: Recipe) -> None:
    importance, ranked = (
        recipe.importance,
        any(student.prune and student.prune.ranked for student in recipe.students.values()),
    )
    if ranked and importance.calibration_samples % importance.micro_batch:
        raise ValueError(
            f"importance.calibration_samples {importance.calibration_samples} is not a multiple of"
            f" importance.micro_batch {importance.micro_batch}, as engine nemo's gpt_prune requires; choose a multiple"
        )
