"""`imbik plan`: what a run of a recipe would do, what it takes, and whether a cluster's GPUs can hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.commands.terminal import ClusterOption, Overrides, StoreOption, apart, out, root_of

if TYPE_CHECKING:
    from conf.clusters import Cluster
    from flows.sizing import Sized


def plan(preset: str, overrides: Overrides = None, store: StoreOption = None, cluster: ClusterOption = "local") -> None:
    """Show every stage as cached or to run, with parameters, tokens, memory and disk; touches nothing."""
    from conf.clusters import load_cluster
    from conf.load import load
    from conf.placed import placed
    from flows.plan import plan as stages_of
    from flows.sizing import sized

    own, theirs = apart(overrides)
    where, root = load_cluster(cluster, theirs), root_of(store)
    recipe = placed(load(preset, own), where)
    stages = sized(recipe, where, stages_of(recipe, root))
    out.print(_stages(stages))
    gpus = [each for each in stages if each.memory]
    if gpus:
        out.print(_gpus(where, gpus))
    for student in recipe.students:
        for called, gate in recipe.gates_of(student).items():
            sure = "the estimate" if gate.confidence == "none" else f"the worse end of the {gate.confidence:.0%} interval"
            out.print(f"gate {called} after {gate.after} of {student}: {gate.told}, at {sure}", highlight=False, markup=False)
    for sentence in [each.misfit for each in stages if each.misfit]:
        out.print(f"does not fit: {sentence}", style="red", highlight=False, markup=False)
    out.print(f"store {root}; {_about(stages)}", style="dim", highlight=False, markup=False)


def _stages(stages: list[Sized]) -> Table:
    shown = Table("stage", "state", "parameters", "tokens", "steps", "memory", "disk", "what differs", header_style="bold")
    for each in stages:
        planned = each.stage
        params, tokens, steps, memory, disk = each.numbers.cells()
        memory = _gb(each.memory.total) + f" x {each.gpus}" if each.memory else memory
        differs = planned.waits or _differences(planned.differs) or "-"
        shown.add_row(planned.label, "cached" if planned.cached else "will run", params, tokens, steps, memory, disk, differs)
    return shown


def _gpus(cluster: Cluster, stages: list[Sized]) -> Table:
    """Memory of each stage's fullest GPU by cause, and its hours."""
    from conf.memory import CAUSES

    name = f"{cluster.gpu.name}, {cluster.gpu.memory_gb:g} GB" if cluster.gpu else "GPU"
    shown = Table(
        "GB on one GPU", *CAUSES, "total", "GPUs", "GPU-hours", "time", "main memory", header_style="bold", title=name, title_justify="left"
    )
    for each in stages:
        assert each.memory is not None
        causes = [_gb(getattr(each.memory, cause), unit="") for cause in CAUSES]
        hours = each.gpu_hours
        spent = (_hours(hours), _time(hours / each.gpus)) if hours is not None else ("-", "-")
        style = "red" if each.misfit else None
        shown.add_row(
            each.stage.label, *causes, _gb(each.memory.total, unit=""), str(each.gpus), *spent, _gb(each.main or 0, unit=""), style=style
        )
    return shown


def _about(stages: list[Sized]) -> str:
    """What the tables mean, and what they come to."""
    from conf.numbers import short

    kept = short(sum(each.numbers.disk or 0 for each in stages), "B")
    beside = short(max((each.numbers.scratch or 0 for each in stages), default=0), "B")
    disk = f"disk is what an artifact keeps, {kept} in all as far as it is known, and up to {beside} more for checkpoints"
    coming = [(each.gpu_hours, each.gpus) for each in stages if each.gpu_hours is not None and not each.stage.cached]
    if not coming:
        return f"memory is a job's peak over all its processes, estimated; {disk}"
    hours, time = sum(hours for hours, _ in coming), sum(hours / gpus for hours, gpus in coming)
    return (
        f"memory is estimated at the peak of a job's fullest GPU; main memory is that of the first node, where checkpoints are copied "
        f"before they are written; {disk}; {_hours(hours)} GPU-hours, {_time(time)} one after another, at the utilisation of published "
        "runs (conf/compute.py), without questions and queues"
    )


def _gb(value: float, unit: str = " GB") -> str:
    return f"{value / 1e9:.1f}{unit}" if value else "-"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _time(hours: float) -> str:
    """Days, hours or minutes."""
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _differences(differs: dict[str, tuple[Any, Any]], most: int = 3) -> str:
    """Changed settings with their values, and which inputs are others."""
    settings = [f"{key}: {_brief(there)} → {_brief(here)}" for key, (there, here) in differs.items() if not key.startswith("input ")]
    inputs = [key.removeprefix("input ") for key in differs if key.startswith("input ")]
    return ", ".join(settings[:most] + ["..."] * (len(settings) > most) + ([f"another {' and '.join(inputs)}"] if inputs else []))


def _brief(value: object) -> str:
    return str(value)[:16]
