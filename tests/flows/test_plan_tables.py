"""What `imbik plan` prints: it fits a terminal with no number cut, and says what a machine cannot hold."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from conf.cluster import load_cluster
from conf.load import load
from conf.parallel import Parallel
from conf.placement import place_on_cluster
from flows.commands import plan_tables
from flows.commands.plan_tables import differences_below, gpu_tables, stages_table
from flows.plan import plan
from flows.sizing import Sized, beyond_this_machine, caches, sized

NOWHERE = Path("/nonexistent/store")
CLUSTER = load_cluster("slurm", [])


def planned(preset: str, *overrides: str, cluster: bool = False) -> list[Sized]:
    on = CLUSTER if cluster else load_cluster("local", [])
    recipe = place_on_cluster(load(preset, list(overrides)), on)
    return sized(recipe, on, plan(recipe, NOWHERE))


def printed(width: int, *things: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(*things)
    return stream.getvalue()


@pytest.mark.parametrize("preset", ["demo", "qwen3-8b-depth-6b", "ablation"])
@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_is_cut(preset: str, width: int) -> None:
    stages, times = planned(preset), {}
    times = {each.stage.label: each.numbers.work.core_seconds(1e10) for each in stages if each.numbers.work}
    text = printed(width, stages_table(stages, times, width, 25e9))
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for each in stages:
        for cell in each.numbers.cells():
            assert cell in text


@pytest.mark.parametrize("width", [80, 160])
def test_no_number_of_a_gpu_is_cut(width: int) -> None:
    stages = planned("qwen3-8b-depth-6b", "distill.steps=28000", "distill.warmup_steps=100", cluster=True)
    gpus = [each for each in stages if each.memory]
    text = printed(width, *gpu_tables(CLUSTER, gpus, width))
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert all(part in text for part in ("5,923", "30.8 days", "61.8", "42.1", "75.3"))


def test_differences_move_below_a_narrow_table() -> None:
    (stage, *_) = planned("demo-search")
    waiting = [each for each in planned("demo-search") if each.stage.waits]
    assert waiting and differences_below(waiting, 80)[0] == f"{waiting[0].stage.label}: {waiting[0].stage.waits}"
    assert differences_below(waiting, 160) == [] == differences_below([stage], 80)


def test_the_cache_is_told_of_students_that_save_some() -> None:
    """The stories preset's students: one of five layers less, and a narrower MLP."""
    found = caches(load("stories", ["students.merged.prune.num_query_groups=3"]))
    assert found == {"teacher": 4 * 6 * 288, "depth": 4 * 5 * 288, "width": 4 * 6 * 288, "merged": 4 * 6 * 144}
    assert plan_tables.cache_line(found) == (
        "KV cache, bytes a token in bf16: teacher 6,912, depth 5,760 (17% less), merged 3,456 (50% less)"
    )
    stages = {each.stage.label: each.numbers.cache for each in planned("stories", "students.width=null")}
    assert (stages["teacher"], stages["prune-depth"], stages["distill-depth"]) == (6912, 5760, 5760)
    assert stages["data"] is None
    searched = load("demo-search")
    assert list(caches(searched)) == ["teacher", *(name for name, each in searched.students.items() if not each.search)]


def test_what_this_machine_cannot_hold_is_marked() -> None:
    stages = planned("qwen3-8b-depth-6b")
    text = printed(160, stages_table(stages, {}, 160, 50e9))
    marked = {line.split()[1] for line in text.splitlines() if " ! " in line}
    assert "distill-depth" in marked and "teacher" not in marked
    told = beyond_this_machine(stages, 50e9, 1e12)
    assert len(told) == 1 and told[0].startswith("distill-depth (and ") and "this machine has 50.0 GB" in told[0]
    assert beyond_this_machine(stages, 1e13, 1e10)[0].startswith("the run needs about ")
    assert beyond_this_machine(planned("demo"), 16e9, 1e10) == []


def distill(cluster_overrides: list[str]) -> Sized:
    cluster = load_cluster("slurm", cluster_overrides)
    recipe = place_on_cluster(load("qwen3-8b-depth-6b"), cluster)
    return next(each for each in sized(recipe, cluster, plan(recipe, NOWHERE)) if each.stage.label == "distill-depth")


@pytest.mark.parametrize(("spare", "may", "no"), [(0.01, True, False), (0.06, False, False), (-0.01, False, True)])
def test_what_is_only_just_held_may_not_fit(spare: float, may: bool, no: bool) -> None:
    memory = distill([]).memory
    assert memory
    found = distill([f"gpu.memory_gb={memory.total * (1 + spare) / 1e9}"])
    assert (bool(found.tight), bool(found.misfit)) == (may, no)
    assert not may or "may be 5% too low" in str(found.tight)


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        (0, "0 s"),
        (1 / 60, "60 s"),
        (119 / 3600, "119 s"),
        (1 / 30, "2 min"),
        (0.999, "60 min"),
        (1, "1.0 h"),
        (47.9, "47.9 h"),
        (48, "2.0 days"),
        (2 * 8766 - 1, "730.5 days"),
        (2 * 8766, "2.0 years"),
    ],
)
def test_a_time_has_the_unit_that_is_read(hours: float, shown: str) -> None:
    assert plan_tables.as_time(hours) == shown


@pytest.mark.parametrize(
    ("hours", "shown"), [(0.123, "0.12"), (9.94, "9.9"), (10, "10"), (99.4, "99"), (100, "100"), (5923.4, "5,923")]
)
def test_gpu_hours_are_whole_from_ten(hours: float, shown: str) -> None:
    assert plan_tables.in_hours(hours) == shown


def test_bytes_are_told_in_gigabytes() -> None:
    shown = [plan_tables.gigabytes(value) for value in (0, 1_250_000_000, 99_960_000_000)]
    assert shown == ["-", "1.2 GB", "100.0 GB"]
    assert plan_tables.gigabytes(2e9, unit="") == "2.0"


@pytest.mark.parametrize(
    ("layout", "used"),
    [({}, 8), ({"processes": 3}, 6), ({"processes": 16}, 8), ({"processes": 2, "threads": 3}, 6), ({"threads": 9}, 8)],
)
def test_a_job_uses_no_more_cores_than_there_are(
    layout: dict[str, int], used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    each: Any = SimpleNamespace(numbers=SimpleNamespace(job=SimpleNamespace(parallel=Parallel(**layout))))
    assert plan_tables.cores_of(each) == used
    assert plan_tables._cpu_time(used * 7200.0, each) == "2.0 h"
    assert plan_tables._cpu_time(None, each) == "-"
    each.numbers.job = None
    assert plan_tables.cores_of(each) == 8, "one process takes all cores"


def test_three_settings_are_named_and_all_inputs() -> None:
    changes: dict[str, tuple[Any, Any]] = dict.fromkeys("abc", (1, 2))
    assert plan_tables._differences(changes) == "a: 1 → 2, b: 1 → 2, c: 1 → 2"
    changes |= {"d": ("x" * 20, None), "input corpus": ("k", "l"), "input teacher": ("k", "l")}
    assert plan_tables._differences(changes) == "a: 1 → 2, b: 1 → 2, c: 1 → 2, ..., different corpus and teacher"
    assert plan_tables._differences({"d": ("x" * 20, None)}) == f"d: {'x' * 16} → None"
    assert plan_tables._differences({}) == ""


def test_time_and_gpu_hours_of_a_stage() -> None:
    each: Any = SimpleNamespace(memory=SimpleNamespace(total=40e9), gpus=8, gpu_hours=384.0, main=None)
    assert plan_tables._spent(each) == ["40.0", "8", "384", "2.0 days", "-"]
    each.gpu_hours, each.main = None, 3e9
    assert plan_tables._spent(each) == ["40.0", "8", "-", "-", "3.0"]
    each.gpu_hours = 0.0
    assert plan_tables._spent(each)[2:4] == ["0", "0 s"]


@pytest.mark.parametrize("wide", [True, False])
def test_numbers_of_a_table_never_wrap(wide: bool) -> None:
    columns = plan_tables._table(["stage", "memory", "disk", "what differs"], wide).columns
    assert [column.no_wrap for column in columns] == [False, True, True, False]
