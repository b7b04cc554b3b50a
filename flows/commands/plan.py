"""`imbik plan`: what a run would do, what it needs, and whether it fits the cluster's GPUs or this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from flows.commands.console import (
    ClusterOption,
    JsonOption,
    Overrides,
    Preset,
    StoreOption,
    new_or_folder,
    out,
    split_overrides,
)
from flows.commands.forms import print_json
from flows.commands.plan_tables import as_time, cache_line, differences_below, gpu_tables, in_hours, stages_table

if TYPE_CHECKING:
    from pathlib import Path

    from conf.base import StageConfig
    from conf.cluster import Cluster
    from conf.ranks import Ranks
    from conf.recipe import Recipe
    from conf.stages.blend import BlendConfig
    from flows.sizing import Sized


def plan(
    preset: Preset,
    overrides: Overrides = None,
    store: StoreOption = None,
    cluster: ClusterOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show each stage as cached or to run, with parameters, tokens, memory and disk; writes nothing. Exit code 2: a
    stage does not fit."""
    from conf.checks.recipe import teacher_shape
    from conf.checks.serve import told
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster
    from flows.plan import plan as stages_of
    from flows.sizing import caches, sized

    recipe_overrides, cluster_overrides = split_overrides(overrides)
    on_cluster, root = load_cluster(cluster, cluster_overrides), new_or_folder(store)
    recipe = place_on_cluster(load(preset, recipe_overrides), on_cluster)
    stages = sized(recipe, on_cluster, stages_of(recipe, root))
    shape = teacher_shape(recipe)
    family = shape.architecture if shape else ""
    if as_json:
        print_json([_as_json(each, recipe.blend, family) | _ranks_as_json(each, on_cluster) for each in stages])
        raise typer.Exit(2 if any(each.misfit for each in stages) else 0)
    times = _on_cpu(on_cluster, stages)
    here = _this_machine(root) if on_cluster.kind == "local" else None
    out.print(stages_table(stages, times, out.width, here and here[0]))
    for line in differences_below(stages, out.width):
        out.print(line, highlight=False, markup=False)
    gpus = [sized_stage for sized_stage in stages if sized_stage.memory]
    if gpus:
        out.print(*gpu_tables(on_cluster, gpus, out.width))
    _gates(recipe)
    if kept := caches(recipe):
        out.print(cache_line(kept), highlight=False, markup=False, soft_wrap=True)
    for line in (*_ranks_told(stages, on_cluster), *_learning(recipe)):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    experts = any(each.numbers.active for each in stages)
    for line in told(recipe.serve, recipe.quantize, experts=experts, family=family):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    _warnings(stages, here)
    out.print(f"store {root}; {_about(stages)}", style="dim", highlight=False, markup=False)
    if times:
        out.print(_about_cpu(stages, times), style="dim", highlight=False, markup=False)
    raise typer.Exit(2 if any(each.misfit for each in stages) else 0)


def _learning(recipe: Recipe) -> list[str]:
    """How the trainings read the corpus, what they share, and what they are asked on their way."""
    from conf.branches import saved
    from conf.checks.watched import watched_told
    from conf.mix import mix_told, phases_told

    return [*phases_told(recipe), *mix_told(recipe), *saved(recipe), *watched_told(recipe)]


def _gates(recipe: Recipe) -> None:
    for student in recipe.students:
        for name, gate in recipe.gates_of(student).items():
            judged = (
                "the estimate" if gate.confidence == "none" else f"the worse end of the {gate.confidence:.0%} interval"
            )
            out.print(
                f"gate {name} after {gate.after} of {student}: {gate.description}, for {judged}",
                highlight=False,
                markup=False,
            )


def _warnings(stages: list[Sized], here: tuple[float, float] | None) -> None:
    """What does not fit the GPUs or this machine (its memory and free disk), or may not."""
    from flows.sizing import beyond_this_machine

    beyond = beyond_this_machine(stages, *here) if here else []
    for sentence in [*(each.misfit for each in stages), *beyond]:
        if sentence:
            out.print(f"does not fit: {sentence}", style="red", highlight=False, markup=False)
    for each in stages:
        if each.tight:
            out.print(f"may not fit: {each.tight}", style="yellow", highlight=False, markup=False)


def _this_machine(root: Path) -> tuple[float, float]:
    """Memory of this machine, and free space on the disk of the store, in bytes."""
    import shutil

    import psutil

    there = next(folder for folder in (root, *root.parents) if folder.exists())
    return psutil.virtual_memory().total, shutil.disk_usage(there).free


def _as_json(each: Sized, blend: BlendConfig | None, family: str) -> dict[str, Any]:
    """A stage for other programs: counts, bytes and hours; null where unknown."""
    from conf.mix import as_json, phases_as_json

    numbers, planned = each.numbers, each.stage
    return {
        "stage": planned.label,
        "state": "cached" if planned.cached else "will run",
        "key": planned.key,
        "parameters": numbers.params,
        **({"active_parameters": numbers.active} if numbers.active else {}),
        **({"head_parameters": numbers.beside} if numbers.beside else {}),
        **({"cache_bytes_per_token": numbers.cache} if numbers.cache else {}),
        "tokens": numbers.tokens,
        "steps": numbers.steps,
        "memory_bytes": numbers.memory,
        "disk_bytes": numbers.disk,
        "scratch_bytes": numbers.scratch,
        "gpus": each.gpus,
        "gpu_bytes": each.memory.total if each.memory else None,
        "gpu_hours": each.gpu_hours,
        "differs": {setting: {"there": there, "here": here} for setting, (there, here) in planned.differs.items()},
        "waits": planned.waits or None,
        "does_not_fit": each.misfit,
        **({"mix": mix} if (mix := as_json(blend, planned.config)) else {}),
        **({"phases": phases} if (phases := phases_as_json(planned.config)) else {}),
        "engines": _engines(planned.config, experts=bool(numbers.active), family=family),
    }


def _ranks(each: Sized, cluster: Cluster) -> Ranks | None:
    """The ranks of a data stage that has several."""
    from conf.ranks import Ranks
    from conf.stages.data import DataConfig

    config = each.stage.config
    return Ranks.of(config, cluster) if isinstance(config, DataConfig) and config.ranks > 1 else None


def _ranks_as_json(each: Sized, cluster: Cluster) -> dict[str, Any]:
    ranks = _ranks(each, cluster)
    return {"curation": ranks.as_json()} if ranks else {}


def _ranks_told(stages: list[Sized], cluster: Cluster) -> list[str]:
    """What the ranks of each data stage get that will run, and those that would stay idle."""
    found = [(each.stage.label, _ranks(each, cluster)) for each in stages if not each.stage.cached]
    return [line for label, ranks in found if ranks for line in (ranks.told(label), ranks.idle_told()) if line]


def _engines(config: StageConfig, *, experts: bool, family: str) -> dict[str, Any] | None:
    """What each engine would do with a quantized model; null for other stages."""
    from dataclasses import replace

    from conf.contract import record
    from conf.engines.verdict import verdicts
    from conf.stages.quantize import QuantizeConfig

    if not isinstance(config, QuantizeConfig):
        return None
    return record(verdicts(replace(config.contents, experts=experts, family=family)))


def _on_cpu(cluster: Cluster, stages: list[Sized]) -> dict[str, float]:
    """Core-seconds of each stage on this machine's CPU, by label."""
    from flows.doctor import processor
    from tasks.launch import gpus

    if cluster.kind != "local" or gpus.visible():
        return {}
    return {each.stage.label: each.numbers.work.core_seconds(processor.flops()) for each in stages if each.numbers.work}


def _about_cpu(stages: list[Sized], times: dict[str, float]) -> str:
    """Duration of the run on this machine's CPU, and the CPU model."""
    from flows.doctor import processor

    cores = os.cpu_count() or 1
    remaining = sum(times[each.stage.label] for each in stages if each.stage.label in times and not each.stage.cached)
    return (
        f"{cores} cores of {processor.kind()}, {processor.flops() / 1e9:.0f} GFLOP/s in fp32 each: stages with a time"
        f" take about {as_time(remaining / cores / 3600)} on all cores, longer if stages wait for each other;"
        " questions, quantization and startup are not included"
    )


def _about(stages: list[Sized]) -> str:
    """Explanation and totals of the tables."""
    from conf.estimate.numbers import short

    runs = {each.stage.against for each in stages if each.stage.against}
    against = f"what differs: from the run {runs.pop()}; " if runs else ""

    total = short(sum(each.numbers.disk or 0 for each in stages), "B")
    scratch = short(max((each.numbers.scratch or 0 for each in stages), default=0), "B")
    disk = f"disk is the size of an artifact, {total} in total where known, and up to {scratch} more for checkpoints"
    pending = [(each.gpu_hours, each.gpus) for each in stages if each.gpu_hours is not None and not each.stage.cached]
    if not pending:
        return f"{against}memory is the estimated peak over all processes of a job; {disk}"
    hours, time = sum(hours for hours, _ in pending), sum(hours / gpus for hours, gpus in pending)
    return (
        f"{against}memory is the estimated peak of a job's fullest GPU; main memory is for one node,"
        f" whose ranks copy checkpoints before writing them; {disk}; {in_hours(hours)} GPU-hours, {as_time(time)} if"
        " stages run one after another, at the utilisation of published runs (conf/estimate/flops.py); without"
        " questions or queues"
    )
