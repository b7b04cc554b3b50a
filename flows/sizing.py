"""Size of a planned run on a cluster: GPU memory and time of each stage, and stages that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from conf.checks.recipe import teacher_shape
from conf.cluster import Cluster
from conf.cuts import cuts
from conf.engines.vllm import required
from conf.estimate.fit import misfit, tight
from conf.estimate.memory import Memory
from conf.estimate.numbers import Models, StageEstimate
from conf.estimate.passes import BYTES
from conf.hf_model import stored_precision
from conf.hf_weights import StoredPrecision
from conf.recipe import Recipe
from conf.shape import Shape, cache_bytes, num_params
from conf.shapes import points
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.sweep import SweepConfig
from conf.stages.verify import VerifyConfig
from flows import engines
from flows.plan import PlannedStage

ASK = (AnswerConfig.stage, EvaluateConfig.stage)
"""Stages that may ask an engine."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A stage with its estimates. `memory` is for the fullest GPU, `main` is main memory in bytes on one node,
    `gpu_hours` is over all GPUs; None if the stage uses no GPU or the value is unknown. `misfit` says that it does not
    fit, `tight` that it may not."""

    stage: PlannedStage
    numbers: StageEstimate
    gpus: int = 0
    memory: Memory | None = None
    main: int | None = None
    gpu_hours: float | None = None
    misfit: str | None = None
    tight: str | None = None


def sized(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> list[Sized]:
    """Every stage as it would run on `cluster`; `recipe` has the cluster's layouts (conf.placement)."""
    return [_sized(estimate(recipe, stage), cluster, stage) for stage in stages]


def estimate(recipe: Recipe, planned: PlannedStage) -> StageEstimate:
    """Estimates of a planned stage; empty if the teacher's shape is unknown."""
    teacher = teacher_shape(recipe)
    if teacher is None:
        return StageEstimate()
    models = _models(recipe, planned, teacher)
    numbers = planned.config.estimate(models) or StageEstimate()
    mixed = [shape for shape in (models.after, models.before, models.teacher) if shape.num_experts]
    active = (num_params(shape, active=True) for shape in mixed if num_params(shape) == numbers.params)
    cache = cache_bytes(models.after) if "model/config.json" in planned.config.writes else None
    return replace(numbers, active=next(active, None), cache=cache)


def caches(recipe: Recipe) -> dict[str, int]:
    """Bytes of KV cache for a token, in 16 bits, of the teacher and of each student of known shape; empty if the
    teacher's is unknown."""
    teacher = teacher_shape(recipe)
    if teacher is None:
        return {}
    known = {name: cuts(recipe, name, teacher) for name, student in recipe.students.items() if not student.search}
    return {"teacher": cache_bytes(teacher)} | {
        name: cache_bytes(all_cuts[-1].after) for name, all_cuts in known.items()
    }


def _stored(recipe: Recipe) -> StoredPrecision:
    """Precision of the teacher's file: an import keeps that of a local model, and a hub model's is not known yet."""
    teacher = recipe.teacher
    if teacher.steps == 0 and teacher.model and Path(teacher.model).is_dir():
        return stored_precision(Path(teacher.model))
    return teacher.precision


def _models(recipe: Recipe, planned: PlannedStage, teacher: Shape) -> Models:
    """Shapes of the models of a planned stage, and the path of its settings in the recipe."""
    width, config, name = BYTES[_stored(recipe)], planned.config, planned.student
    if name is None:
        scored = len(points(config, teacher)) if isinstance(config, SweepConfig) else 0
        return Models(
            teacher=teacher, before=teacher, after=teacher, where=config.stage, weight_bytes=width, cuts=scored
        )
    all_cuts, search = cuts(recipe, name, teacher), recipe.students[name].search
    if config.stage == "search":
        where = f"students.{name}.search"
        return Models(teacher=teacher, before=teacher, after=teacher, where=where, cuts=len(all_cuts))
    cut = all_cuts[0 if search and planned.cut < 0 else planned.cut]
    sft_at = "sft" if recipe.students[name].sft is None else f"students.{name}.sft"
    return Models(
        teacher=cut.teacher if config.stage in ("distill", "trunk") else teacher,
        before=cut.before,
        after=cut.after,
        where={"prune": cut.where, "distill": cut.distill_at, "trunk": cut.distill_at, "sft": sft_at}.get(
            config.stage, config.stage
        ),
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
    problem = misfit(stage.label, job, gpu.name, gpu.memory_gb * 1e9, resources.gpus_per_node)
    if main and resources.memory_gb and main > resources.memory_gb * 1e9:
        problem = problem or (
            f"{stage.label} needs {main / 1e9:.1f} GB of main memory on a node, to copy a checkpoint before"
            f" writing it, but requests {resources.memory_gb:g} GB; raise the cluster's stages.{stage.stage}.memory_gb"
        )
    near = None if problem else tight(stage.label, job, gpu.name, gpu.memory_gb * 1e9, resources.gpus_per_node)
    return Sized(
        stage=stage,
        numbers=numbers,
        gpus=gpus,
        memory=memory,
        main=main,
        gpu_hours=hours,
        misfit=problem,
        tight=near,
    )


def check_fits(recipe: Recipe, cluster: Cluster, stages: list[PlannedStage]) -> None:
    """Raise ValueError, with the nearest layout that fits, if a stage that must run does not fit its GPUs, or if it
    needs an engine that this machine lacks and runs here."""
    if any(stage.stage == VerifyConfig.stage and not stage.cached for stage in stages):
        if cluster.kind == "local":
            required()
        else:
            engines.named(cluster, VerifyConfig.stage, "verify needs vLLM", "set verify to null")
    if asked := [stage.config for stage in stages if stage.stage in ASK and not stage.cached]:
        engines.check(recipe.evaluate, cluster, asked)
    for stage in sized(recipe, cluster, [stage for stage in stages if not stage.cached]):
        if stage.misfit:
            raise ValueError(stage.misfit)


def exceeds(each: Sized, memory: float) -> bool:
    """Whether a stage without GPUs needs more memory than a machine has, in bytes."""
    return not each.memory and (each.numbers.memory or 0) > memory


def beyond_this_machine(stages: list[Sized], memory: float, disk: float) -> list[str]:
    """What a run would need and this machine lacks, in sentences: `memory` in bytes for each stage that runs on its
    CPU, free `disk` in bytes for all that are not in the store."""
    pending = [each for each in stages if not each.stage.cached]
    large = [each for each in pending if exceeds(each, memory)]
    sentences = []
    if large:
        most = max(large, key=lambda each: each.numbers.memory or 0)
        others = f" (and {len(large) - 1} more stages)" if len(large) > 1 else ""
        sentences.append(
            f"{most.stage.label}{others} needs about {(most.numbers.memory or 0) / 1e9:.1f} GB of memory, but this"
            f" machine has {memory / 1e9:.1f} GB; use --cluster, a smaller model or a smaller micro_batch"
        )
    needed = sum(each.numbers.disk or 0 for each in pending) + max(
        (each.numbers.scratch or 0 for each in pending), default=0
    )
    if needed > disk:
        sentences.append(
            f"the run needs about {needed / 1e9:.1f} GB of disk, but the store's has {disk / 1e9:.1f} GB free; free"
            " space or choose another --store"
        )
    return sentences
