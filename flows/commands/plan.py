"""`imbik plan`: what a run would do, what it needs, and whether it fits the cluster's GPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich.table import Table

from conf.parallel import Parallel
from flows.commands.console import ClusterOption, Overrides, StoreOption, out, root_of, split_overrides

if TYPE_CHECKING:
    from conf.cluster import Cluster
    from flows.sizing import Sized


def plan(preset: str, overrides: Overrides = None, store: StoreOption = None, cluster: ClusterOption = "local") -> None:
    """Show each stage as cached or to run, with parameters, tokens, memory and disk; writes nothing."""
    from conf.cluster import load_cluster
    from conf.load import load
    from conf.placement import place_on_cluster
    from flows.plan import plan as stages_of
    from flows.sizing import sized

    recipe_overrides, cluster_overrides = split_overrides(overrides)
    on_cluster, root = load_cluster(cluster, cluster_overrides), root_of(store)
    recipe = place_on_cluster(load(preset, recipe_overrides), on_cluster)
    stages = sized(recipe, on_cluster, stages_of(recipe, root))
    times = _on_cpu(on_cluster, stages)
    out.print(_stages(stages, times))
    gpus = [sized_stage for sized_stage in stages if sized_stage.memory]
    if gpus:
        out.print(_gpus(on_cluster, gpus))
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
    for sentence in [sized_stage.misfit for sized_stage in stages if sized_stage.misfit]:
        out.print(f"does not fit: {sentence}", style="red", highlight=False, markup=False)
    out.print(f"store {root}; {_about(stages)}", style="dim", highlight=False, markup=False)
    if times:
        out.print(_about_cpu(stages, times), style="dim", highlight=False, markup=False)


def _on_cpu(cluster: Cluster, stages: list[Sized]) -> dict[str, float]:
    """Core-seconds of each stage on this machine's CPU, by label."""
    from flows.doctor import processor
    from tasks.launch import gpus

    if cluster.kind != "local" or gpus.visible():
        return {}
    return {each.stage.label: each.numbers.work.core_seconds(processor.flops()) for each in stages if each.numbers.work}


def _stages(stages: list[Sized], times: dict[str, float]) -> Table:
    clock = ["time"] if times else []
    table = Table(
        "stage", "state", "parameters", "tokens", "steps", *clock, "memory", "disk", "what differs", header_style="bold"
    )
    for each in stages:
        planned = each.stage
        params, tokens, steps, memory, disk = each.numbers.cells()
        memory = _gb(each.memory.total) + f" x {each.gpus}" if each.memory else memory
        differs = planned.waits or _differences(planned.differs) or "-"
        state = "cached" if planned.cached else "will run"
        took = [_cpu_time(times.get(planned.label), each)] if times else []
        table.add_row(planned.label, state, params, tokens, steps, *took, memory, disk, differs)
    return table


def _cpu_time(core_seconds: float | None, each: Sized) -> str:
    """Duration of a stage on the cores of its job."""
    return _time(core_seconds / _cores(each) / 3600) if core_seconds else "-"


def _cores(each: Sized) -> int:
    parallel, cores = each.numbers.job.parallel if each.numbers.job else Parallel(), os.cpu_count() or 1
    return min(cores, parallel.processes * (parallel.threads or max(1, cores // parallel.processes)))


def _about_cpu(stages: list[Sized], times: dict[str, float]) -> str:
    """Duration of the run on this machine's CPU, and the CPU model."""
    from flows.doctor import processor

    cores = os.cpu_count() or 1
    remaining = sum(times[each.stage.label] for each in stages if each.stage.label in times and not each.stage.cached)
    return (
        f"{cores} cores of {processor.kind()}, {processor.flops() / 1e9:.0f} GFLOP/s in fp32 each: stages with a time"
        f" take about {_time(remaining / cores / 3600)} on all cores, longer if stages wait for each other; questions,"
        " quantization and startup are not included"
    )


def _gpus(cluster: Cluster, stages: list[Sized]) -> Table:
    """Memory of each stage's fullest GPU by cause, and GPU-hours."""
    from conf.estimate.memory import CAUSES

    name = f"{cluster.gpu.name}, {cluster.gpu.memory_gb:g} GB" if cluster.gpu else "GPU"
    table = Table(
        "GB on one GPU",
        *CAUSES,
        "total",
        "GPUs",
        "GPU-hours",
        "time",
        "main memory",
        header_style="bold",
        title=name,
        title_justify="left",
    )
    for each in stages:
        assert each.memory is not None
        causes = [_gb(getattr(each.memory, cause), unit="") for cause in CAUSES]
        hours = each.gpu_hours
        spent = (_hours(hours), _time(hours / each.gpus)) if hours is not None else ("-", "-")
        style = "red" if each.misfit else None
        table.add_row(
            each.stage.label,
            *causes,
            _gb(each.memory.total, unit=""),
            str(each.gpus),
            *spent,
            _gb(each.main or 0, unit=""),
            style=style,
        )
    return table


def _about(stages: list[Sized]) -> str:
    """Explanation and totals of the tables."""
    from conf.estimate.numbers import short

    total = short(sum(each.numbers.disk or 0 for each in stages), "B")
    scratch = short(max((each.numbers.scratch or 0 for each in stages), default=0), "B")
    disk = f"disk is the size of an artifact, {total} in total where known, and up to {scratch} more for checkpoints"
    pending = [(each.gpu_hours, each.gpus) for each in stages if each.gpu_hours is not None and not each.stage.cached]
    if not pending:
        return f"memory is the estimated peak over all processes of a job; {disk}"
    hours, time = sum(hours for hours, _ in pending), sum(hours / gpus for hours, gpus in pending)
    return (
        "memory is the estimated peak of a job's fullest GPU; main memory is for the first node, which copies"
        f" checkpoints before writing them; {disk}; {_hours(hours)} GPU-hours, {_time(time)} if stages run one after"
        " another, at the utilisation of published runs (conf/estimate/flops.py), without questions and queues"
    )


def _gb(value: float, unit: str = " GB") -> str:
    return f"{value / 1e9:.1f}{unit}" if value else "-"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _time(hours: float) -> str:
    """Hours as days, hours, minutes or seconds."""
    if hours >= 1:
        return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours >= 1 / 30 else f"{hours * 3600:.0f} s"


def _differences(differs: dict[str, tuple[Any, Any]], most: int = 3) -> str:
    """Changed settings with both values, and changed inputs."""
    settings = [
        f"{key}: {_brief(there)} → {_brief(here)}"
        for key, (there, here) in differs.items()
        if not key.startswith("input ")
    ]
    inputs = [key.removeprefix("input ") for key in differs if key.startswith("input ")]
    return ", ".join(
        settings[:most] + ["..."] * (len(settings) > most) + ([f"different {' and '.join(inputs)}"] if inputs else [])
    )


def _brief(value: object) -> str:
    return str(value)[:16]
