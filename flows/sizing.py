"""A planned run on a cluster: what each stage needs of its GPUs and how long it takes, and the stages that do not fit
them."""

from __future__ import annotations

from dataclasses import dataclass

from conf.checks.recipe import teacher_shape
from conf.cluster import Cluster
from conf.cuts import cuts
from conf.estimate.fit import misfit
from conf.estimate.memory import BYTES, Memory
from conf.estimate.numbers import Models, StageEstimate
from conf.recipe import Recipe
from conf.shape import Shape
from conf.shapes import points
from conf.stages.sweep import SweepConfig
from flows.plan import PlannedStage


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A stage with its numbers; `memory` is that of the fullest GPU, `main` that of the first node beside its GPUs, and
    `hours` those of all, None where the stage has no GPU or it is not known."""

    stage: PlannedStage
    numbers: StageEstimate
    gpus: int = 0
    memory: Memory | None = None
    main: int | None = None
    gpu_hours: float | None = None
    misfit: str | None = None


def sized(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> list[Sized]:
    """Every stage as it would run on `cluster`; `recipe` has the cluster's layouts (conf.placed)."""
    return [_sized(estimate(recipe, stage), cluster, stage) for stage in stages]


def estimate(recipe: Recipe, planned: PlannedStage) -> StageEstimate:
    """What a planned stage handles and needs; nothing where the teacher's shape is not known."""
    teacher = teacher_shape(recipe)
    return (teacher and planned.config.estimate(_models(recipe, planned, teacher))) or StageEstimate()


def _models(recipe: Recipe, planned: PlannedStage, teacher: Shape) -> Models:
    """The models that a planned stage handles, and where the recipe has its settings."""
    width, config, name = BYTES[recipe.teacher.precision], planned.config, planned.student
    if name is None:
        scored = len(points(config, teacher)) if isinstance(config, SweepConfig) else 0
        return Models(
            teacher=teacher, before=teacher, after=teacher, where=config.stage, weight_bytes=width, cuts=scored
        )
    found, search = cuts(recipe, name, teacher), recipe.students[name].search
    if config.stage == "search":
        where = f"students.{name}.search"
        return Models(teacher=teacher, before=teacher, after=teacher, where=where, cuts=len(found))
    cut = found[0 if search and planned.cut < 0 else planned.cut]
    own = "sft" if recipe.students[name].sft is None else f"students.{name}.sft"
    return Models(
        teacher=cut.teacher if config.stage == "distill" else teacher,
        before=cut.before,
        after=cut.after,
        where={"prune": cut.where, "distill": cut.distill_at, "sft": own}.get(config.stage, config.stage),
        weight_bytes=BYTES[cut.config.precision] if cut.config and config.stage == "quantize" else width,
    )


def _sized(numbers: StageEstimate, cluster: Cluster, stage: PlannedStage) -> Sized:
    job, gpu, resources = numbers.job, cluster.gpu, cluster.resources(stage.stage)
    if job is None or not resources.gpus_per_node:
        return Sized(stage=stage, numbers=numbers)
    gpus, memory = job.parallel.processes, job.peak("cuda")
    main = numbers.copies.of(min(gpus, resources.gpus_per_node)) if numbers.copies.checkpoint else None
    if gpu is None:
        return Sized(stage=stage, numbers=numbers, gpus=gpus, memory=memory, main=main)
    hours = numbers.work.gpu_hours(gpu.bf16_tflops) if numbers.work else None
    wrong = misfit(stage.label, job, gpu.name, gpu.memory_gb * 1e9, resources.gpus_per_node)
    if main and resources.memory_gb and main > resources.memory_gb * 1e9:
        wrong = wrong or (
            f"{stage.label} needs {main / 1e9:.1f} GB of main memory on its first node, where a checkpoint is copied"
            f" before it is written, but asks for {resources.memory_gb:g} GB; raise stages.{stage.stage}.memory_gb of"
            " the cluster"
        )
    return Sized(stage=stage, numbers=numbers, gpus=gpus, memory=memory, main=main, gpu_hours=hours, misfit=wrong)


def check_fits(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> None:
    """Refuse, with one sentence and the nearest layout that fits, a run of which a stage that is not made yet cannot
    fit its GPUs."""
    for found in sized(recipe, cluster, [stage for stage in stages if not stage.cached]):
        if found.misfit:
            raise ValueError(found.misfit)
