"""A planned run on a cluster: what each stage needs of its GPUs and how long it takes, and the stages that do not fit
them."""

from __future__ import annotations

from dataclasses import dataclass

from conf.cluster import Cluster
from conf.estimate import recipe as estimate
from conf.estimate.fit import misfit
from conf.estimate.memory import Memory
from conf.estimate.numbers import Numbers
from conf.recipe import Recipe
from flows.plan import PlannedStage


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A stage with its numbers; `memory` is that of the fullest GPU, `main` that of the first node beside its GPUs, and
    `hours` those of all, None where the stage has no GPU or it is not known."""

    stage: PlannedStage
    numbers: Numbers
    gpus: int = 0
    memory: Memory | None = None
    main: int | None = None
    gpu_hours: float | None = None
    misfit: str | None = None


def sized(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> list[Sized]:
    """Every stage as it would run on `cluster`; `recipe` has the cluster's layouts (conf.placed)."""
    return [_sized(estimate.stage(recipe, stage.label), cluster, stage) for stage in stages]


def _sized(numbers: Numbers, cluster: Cluster, stage: PlannedStage) -> Sized:
    job, gpu, place = numbers.job, cluster.gpu, cluster.place(stage.stage)
    if job is None or not place.gpus_per_node:
        return Sized(stage=stage, numbers=numbers)
    gpus, memory = job.parallel.processes, job.peak("cuda")
    main = numbers.copies.of(min(gpus, place.gpus_per_node)) if numbers.copies.checkpoint else None
    if gpu is None:
        return Sized(stage=stage, numbers=numbers, gpus=gpus, memory=memory, main=main)
    hours = numbers.work.gpu_hours(gpu.bf16_tflops) if numbers.work else None
    wrong = misfit(stage.label, job, gpu.name, gpu.memory_gb * 1e9, place.gpus_per_node)
    if main and place.memory_gb and main > place.memory_gb * 1e9:
        wrong = wrong or (
            f"{stage.label} needs {main / 1e9:.1f} GB of main memory on its first node, where a checkpoint is copied"
            f" before it is written, but asks for {place.memory_gb:g} GB; raise stages.{stage.stage}.memory_gb of the"
            " cluster"
        )
    return Sized(stage=stage, numbers=numbers, gpus=gpus, memory=memory, main=main, gpu_hours=hours, misfit=wrong)


def check_fits(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> None:
    """Refuse, with one sentence and the nearest layout that fits, a run of which a stage that is not made yet cannot
    fit its GPUs."""
    for found in sized(recipe, cluster, [stage for stage in stages if not stage.cached]):
        if found.misfit:
            raise ValueError(found.misfit)
