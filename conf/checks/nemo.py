"""What a recipe with `engine: nemo` may not ask for, because NeMo's scripts do not do it."""

from __future__ import annotations

from conf.nemo import settings as nemo
from conf.recipe import Recipe


def check_nemo(recipe: Recipe) -> None:
    """Raise ValueError with one sentence for the first thing the engine cannot do."""
    if recipe.engine != "nemo":
        return
    beyond = {"sweep": recipe.sweep, "logits": recipe.logits, "sft": recipe.sft, "generate": recipe.generate}
    for name, stage in beyond.items():
        if stage:
            raise ValueError(f"{name} is a stage that engine nemo does not have; leave it out or use engine megatron")
    if recipe.teacher.shape:
        raise ValueError(
            "teacher.shape starts from random weights, which engine nemo's gpt_train does not do; name a teacher.model"
        )
    if recipe.teacher.steps:
        nemo.check_training("teacher", recipe.teacher)
    for name, student in recipe.students.items():
        where = f"students.{name}"
        for form in ("search", "rounds", "sft"):
            if getattr(student, form):
                raise ValueError(
                    f"{where}.{form} is not done by engine nemo; give {where}.prune or use engine megatron"
                )
        assert student.prune is not None, "a student has exactly one shape"
        nemo.check_prune(f"{where}.prune", student.prune)
        if how := recipe.distill_of(name):
            taught = f"{where}.distill" if student.distill else "distill"
            nemo.check_distill(taught, how)
            nemo.check_training(taught, how)
    _check_samples(recipe)


def _check_samples(recipe: Recipe) -> None:
    importance, ranked = (
        recipe.importance,
        any(student.prune and student.prune.ranked for student in recipe.students.values()),
    )
    if ranked and importance.calibration_samples % importance.micro_batch:
        raise ValueError(
            f"importance.calibration_samples {importance.calibration_samples} is not a multiple of"
            f" importance.micro_batch {importance.micro_batch}, which engine nemo's gpt_prune asks for; choose a"
            " multiple"
        )
