"""The numbers of every stage of a recipe, by its label in a plan; the formulas are in `memory` and `compute`."""

from __future__ import annotations

from conf.checks.recipe import teacher_shape
from conf.cuts import Cut, cut_at
from conf.estimate import stages
from conf.estimate.memory import BYTES
from conf.estimate.numbers import Numbers
from conf.recipe import Recipe
from conf.shapes import num_params
from conf.stages.logits import LogitsConfig
from conf.stages.quantize import scorings
from conf.stages.sft import SftConfig


def stage(recipe: Recipe, label: str) -> Numbers:
    """Numbers of the stage called `label` in a run of this recipe."""
    teacher = teacher_shape(recipe)
    if teacher is None:
        return Numbers()
    kind, _, rest = label.partition("-")
    if label == "fetch-teacher":
        return Numbers(params=num_params(teacher), disk=2 * num_params(teacher))
    if kind == "teacher":
        return stages.teacher(recipe.teacher, teacher)
    if kind in ("search", "sweep"):
        config = recipe.students[rest].search if kind == "search" else recipe.sweep
        return (
            stages.cuts_scored(f"students.{rest}.search" if rest else "sweep", config, teacher) if config else Numbers()
        )
    if kind == "generate" and recipe.generate and not recipe.generate.endpoint:
        return stages.generated(recipe.generate, teacher)
    if kind == "logits" and (stored := _storing(recipe, rest)):
        return stages.stored(stored, teacher)
    student = student_of(recipe, rest)
    cut = cut_at(recipe, student, rest[len(student) + 1 :], teacher) if student else None
    if kind == "importance":
        return stages.scored(recipe.importance, cut.before if cut else teacher)
    if kind == "sft" and (tune := tuning_of(recipe, rest)):
        where = f"students.{rest}.sft" if student and recipe.students[student].sft else "sft"
        return stages.trained(
            where, cut.after if cut else teacher, tune, teacher if tune.kd_weight and not tune.offline else None
        )
    if kind == "evaluate":
        return stages.evaluated(recipe.evaluate, cut.after if cut else teacher, teacher)
    return _student_stage(recipe, kind, rest, student, cut) if cut else Numbers()


def student_of(recipe: Recipe, rest: str) -> str:
    """The student a label speaks of, by the longest name that fits."""
    return max((name for name in recipe.students if rest == name or rest.startswith(f"{name}-")), key=len, default="")


def tuning_of(recipe: Recipe, name: str) -> SftConfig | None:
    """How the student called `name`, or the teacher, is fine-tuned."""
    return recipe.teacher_sft if name == "teacher" else recipe.sft_of(name) if name in recipe.students else None


def _student_stage(recipe: Recipe, kind: str, rest: str, student: str, cut: Cut) -> Numbers:
    if kind == "prune":
        return stages.pruned(recipe.teacher, cut)
    if kind == "distill" and cut.how:
        return stages.trained(cut.taught_at, cut.after, cut.how, None if cut.how.offline else cut.teacher)
    if kind == "sensitivity":
        return stages.sensitivity(scorings(student, recipe.formats_of(student))[f"sensitivity-{rest}"], cut.after)
    if kind == "quantize":
        config = next(entry for entry in recipe.quantize if rest == f"{student}-{entry.name}")
        return stages.quantized(config, cut.after, BYTES[cut.how.precision if cut.how else recipe.teacher.precision])
    return Numbers()


def _storing(recipe: Recipe, rest: str) -> LogitsConfig | None:
    """What is stored: of the corpus, or of the records for the student called `sft-NAME`."""
    how = recipe.sft_of(rest.removeprefix("sft-")) if rest.removeprefix("sft-") in recipe.students else None
    return how.stored if how else recipe.logits
