"""The tables of `imbik plan`. On a narrow terminal they have other columns and no lines, so that no number is cut."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich.table import Table

from conf.parallel import Parallel

if TYPE_CHECKING:
    from conf.cluster import Cluster
    from flows.sizing import Sized

WIDE = 150
"""Columns of a terminal from which the tables have lines, and what differs in a column of its own."""
SHORT = {"gradients": "grads", "optimizer": "optim.", "activations": "activ."}
"""Titles of causes of memory on a narrow terminal."""


def stages_table(stages: list[Sized], times: dict[str, float], width: int, memory_bytes: float | None) -> Table:
    """Every stage with its numbers; `times` are core-seconds on this machine by label. A stage that does not fit its
    GPUs, or `memory_bytes` of this machine, has a mark behind its memory."""
    from flows.sizing import exceeds

    wide, clock = width >= WIDE, ["time"] if times else []
    titles = ["stage", "state", "parameters" if wide else "params", "tokens", "steps", *clock, "memory", "disk"]
    table = _table([*titles, "what differs"] if wide else titles, wide)
    for each in stages:
        planned = each.stage
        params, tokens, steps, memory, disk = each.numbers.cells()
        memory = gigabytes(each.memory.total) + f" x {each.gpus}" if each.memory else memory
        misfit = each.misfit or (memory_bytes is not None and exceeds(each, memory_bytes))
        memory += " !" if misfit else ""
        state = "cached" if planned.cached else "will run"
        took = [_cpu_time(times.get(planned.label), each)] if times else []
        cells = [planned.label, state, params, tokens, steps, *took, memory, disk]
        table.add_row(*cells, *([what_differs(each) or "-"] if wide else []), style="red" if misfit else None)
    return table


def _table(titles: list[str], wide: bool, title: str | None = None) -> Table:
    """An empty table whose first and last columns may wrap; numbers never do."""
    from rich import box

    table = Table(
        header_style="bold",
        title=title,
        title_justify="left",
        box=box.HEAVY_HEAD if wide else None,
        padding=(0, 1) if wide else (0, 1, 0, 0),
        pad_edge=wide,
    )
    for number, name in enumerate(titles):
        texts = number == 0 or name == "what differs"
        table.add_column(name, no_wrap=not texts, overflow="fold")
    return table


def differences_below(stages: list[Sized], width: int) -> list[str]:
    """What differs, by stage, where the table has no column for it."""
    if width >= WIDE:
        return []
    return [f"{each.stage.label}: {text}" for each in stages if (text := what_differs(each))]


def cache_line(caches: dict[str, int]) -> str:
    """KV cache of a token in bytes: the teacher's, which is the first, and those of students that save some of it."""
    (teacher, whole), *students = caches.items()
    saving = [f"{name} {size:,} ({1 - size / whole:.0%} less)" for name, size in students if size < whole]
    return f"KV cache, bytes a token in bf16: {', '.join([f'{teacher} {whole:,}', *saving])}"


def what_differs(each: Sized) -> str:
    """What a stage waits for, or how it differs from the stage that it is compared with."""
    return each.stage.waits or _differences(each.stage.differs)


def gpu_tables(cluster: Cluster, stages: list[Sized], width: int) -> list[Table]:
    """Memory of each stage's fullest GPU by cause, and GPU-hours; in two tables on a narrow terminal."""
    from conf.estimate.memory import CAUSES

    name = f"{cluster.gpu.name}, {cluster.gpu.memory_gb:g} GB" if cluster.gpu else "GPU"
    wide, spent = width >= WIDE, ["total", "GPUs", "GPU-hours", "time", "main memory"]
    if wide:
        return [_filled(_table(["GB on one GPU", *CAUSES, *spent], wide, name), stages, [_causes, _spent])]
    causes = [SHORT.get(cause, cause) for cause in CAUSES]
    return [
        _filled(_table(["GB on one GPU", *spent], wide, name), stages, [_spent]),
        _filled(_table(["... by cause", *causes], wide), stages, [_causes]),
    ]


def _filled(table: Table, stages: list[Sized], parts: list[Any]) -> Table:
    for each in stages:
        cells = [cell for part in parts for cell in part(each)]
        table.add_row(each.stage.label, *cells, style="red" if each.misfit else "yellow" if each.tight else None)
    return table


def _causes(each: Sized) -> list[str]:
    from conf.estimate.memory import CAUSES

    return [gigabytes(getattr(each.memory, cause), unit="") for cause in CAUSES]


def _spent(each: Sized) -> list[str]:
    assert each.memory is not None, "only stages on GPUs are in this table"
    hours = each.gpu_hours
    spent = (in_hours(hours), as_time(hours / each.gpus)) if hours is not None else ("-", "-")
    return [gigabytes(each.memory.total, unit=""), str(each.gpus), *spent, gigabytes(each.main or 0, unit="")]


def _cpu_time(core_seconds: float | None, each: Sized) -> str:
    """Duration of a stage on the cores of its job."""
    return as_time(core_seconds / cores_of(each) / 3600) if core_seconds else "-"


def cores_of(each: Sized) -> int:
    """Cores that a stage's job uses on this machine."""
    parallel, cores = each.numbers.job.parallel if each.numbers.job else Parallel(), os.cpu_count() or 1
    return min(cores, parallel.processes * (parallel.threads or max(1, cores // parallel.processes)))


def gigabytes(value: float, unit: str = " GB") -> str:
    """Bytes in GB; a dash for none."""
    return f"{value / 1e9:.1f}{unit}" if value else "-"


def in_hours(value: float) -> str:
    """Hours with two digits, or whole from 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def as_time(hours: float) -> str:
    """Hours as years, days, hours, minutes or seconds."""
    if hours >= 2 * 8766:
        return f"{hours / 8766:.1f} years"
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
