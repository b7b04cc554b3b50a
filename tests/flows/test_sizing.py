"""What does not fit, at its bounds: a stage's memory, a run's disk, a node's main memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import Cluster
from conf.engines import vllm
from conf.estimate.memory import LIBRARIES, Copies, Memory
from conf.estimate.numbers import JobEstimate, StageEstimate
from conf.parallel import Parallel
from conf.shape import Shape
from flows import sizing
from flows.sizing import Sized, beyond_this_machine, check_fits, exceeds

GB = 10**9


def job(each: int, ranks: int = 1) -> JobEstimate:
    """Ranks of `each` bytes on any device."""
    return JobEstimate(memory=lambda parallel, batch, device: Memory(weights=each), parallel=Parallel(processes=ranks))


def stage(label: str = "distill", cached: bool = False) -> Any:
    return SimpleNamespace(label=label, stage=label.partition("-")[0], cached=cached)


def sized(memory: int = 0, disk: int = 0, scratch: int = 0, label: str = "distill", cached: bool = False) -> Sized:
    """A stage of one process on this machine."""
    numbers = StageEstimate(job=job(memory) if memory else None, disk=disk, scratch=scratch)
    return Sized(stage=stage(label, cached), numbers=numbers)


@pytest.mark.parametrize(("machine", "more"), [(7 * GB, False), (7 * GB - 1, True)])
def test_a_stage_exceeds_a_smaller_machine_only(machine: int, more: bool) -> None:
    assert exceeds(sized(7 * GB), machine) == more
    assert not exceeds(Sized(stage=stage(), numbers=StageEstimate(job=job(7 * GB)), memory=Memory(weights=1)), machine)
    assert not exceeds(sized(), 0)


def test_the_largest_stage_is_told_with_the_number_of_others() -> None:
    small, large, fits = sized(7 * GB, label="a"), sized(9 * GB, label="b"), sized(2 * GB, label="c")
    (alone,) = beyond_this_machine([large, fits], 6 * GB, 0)
    assert alone.startswith("b needs about 9.0 GB of memory, but this machine has 6.0 GB; use --cluster")
    (both,) = beyond_this_machine([small, large, fits], 6 * GB, 0)
    assert both.startswith("b (and 1 more stages) needs about 9.0 GB")
    cached = sized(9 * GB, disk=GB, label="b", cached=True)
    assert beyond_this_machine([cached], 6 * GB, 0) == beyond_this_machine([], 0, 0) == []


@pytest.mark.parametrize(("free", "more"), [(8 * GB, False), (8 * GB - 1, True)])
def test_a_run_needs_all_its_disk_and_the_most_scratch(free: int, more: bool) -> None:
    stages = [sized(disk=2 * GB, scratch=GB), sized(disk=3 * GB, scratch=3 * GB), sized(disk=50 * GB, cached=True)]
    told = beyond_this_machine(stages, 0, free)
    assert bool(told) == more
    assert not more or told[0].startswith("the run needs about 8.0 GB of disk, but the store's has 8.0 GB free")


def cluster_with(gpu: bool = True, **defaults: Any) -> Cluster:
    card = {"name": "H", "memory_gb": 80, "bf16_tflops": 1000}
    values = {"kind": "slurm", "defaults": {"gpus_per_node": 4} | defaults}
    return Cluster.model_validate(values | ({"gpu": card} if gpu else {}))


def test_a_stage_without_gpus_has_no_size() -> None:
    numbers = StageEstimate(job=job(GB))
    assert sizing._sized(numbers, cluster_with(gpus_per_node=0), stage()) == Sized(stage=stage(), numbers=numbers)
    nothing = StageEstimate()
    assert sizing._sized(nothing, cluster_with(), stage()) == Sized(stage=stage(), numbers=nothing)


@pytest.mark.parametrize("gpu", [True, False])
def test_gpus_and_main_memory_are_those_of_the_first_node(gpu: bool) -> None:
    numbers = StageEstimate(job=job(GB, ranks=8), copies=Copies(checkpoint=5 * GB, best=GB))
    found = sizing._sized(numbers, cluster_with(gpu), stage())
    assert (found.gpus, found.memory) == (8, Memory(weights=GB))
    assert found.main == 5 * GB + 4 * (GB + LIBRARIES), "of 8 ranks, 4 are on it"
    assert (found.misfit, found.gpu_hours) == (None, None)
    assert sizing._sized(StageEstimate(job=job(GB)), cluster_with(gpu), stage()).main is None


@pytest.mark.parametrize(("each", "misfit"), [(80 * GB, False), (80 * GB + 1, True)])
def test_a_stage_must_fit_its_gpus(each: int, misfit: bool) -> None:
    found = sizing._sized(StageEstimate(job=job(each)), cluster_with(), stage())
    assert (found.misfit is not None, found.tight is not None) == (misfit, not misfit)


@pytest.mark.parametrize(("spare", "misfit"), [(0, False), (1, True)])
def test_main_memory_must_hold_the_copies(spare: int, misfit: bool) -> None:
    numbers = StageEstimate(job=job(GB), copies=Copies(checkpoint=10 * GB - LIBRARIES + spare))
    found = sizing._sized(numbers, cluster_with(memory_gb=10), stage())
    words = "distill needs 10.0 GB of main memory on a node"
    assert (found.misfit or "").startswith(words) == misfit
    assert sizing._sized(numbers, cluster_with(), stage()).misfit is None, "the cluster's default is not known"


def test_only_stages_that_must_run_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_too_large(recipe: Any, cluster: Any, stages: list[Any]) -> list[Sized]:
        return [Sized(stage=each, numbers=StageEstimate(), misfit=f"{each.label} is too large") for each in stages]

    monkeypatch.setattr(sizing, "sized", all_too_large)
    nothing: Any = None
    check_fits(nothing, cluster_with(), [stage(cached=True)])
    with pytest.raises(ValueError, match=r"^b is too large$"):
        check_fits(nothing, cluster_with(), [stage("a", cached=True), stage("b")])


def test_a_missing_engine_is_told_before_any_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm.PYTHON, raising=False)
    monkeypatch.setattr(vllm, "OWN", Path("/nowhere"))
    monkeypatch.setattr(sizing, "sized", lambda recipe, cluster, stages: [])
    nothing: Any = None
    verify = stage("verify-a")
    with pytest.raises(ValueError, match="verify needs vLLM where its jobs run; run make engine there"):
        check_fits(nothing, Cluster(), [verify])
    check_fits(nothing, Cluster(), [stage("verify-a", cached=True)])
    with pytest.raises(ValueError, match="verify needs vLLM, but its jobs run on slurm, and nothing names a Python"):
        check_fits(nothing, cluster_with(), [verify])
    check_fits(nothing, cluster_with(environment={vllm.PYTHON: "/opt/vllm/bin/python"}), [verify])


@pytest.mark.parametrize(
    ("searched", "cut", "layers"), [(False, 0, 6), (False, 1, 5), (True, 2, 4), (True, 1, 5), (True, -1, 6)]
)
def test_a_stage_is_sized_by_its_own_cut(
    searched: bool, cut: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a search has ended (-1), by its first candidate."""
    whole = Shape(
        num_layers=8, hidden_size=64, ffn_hidden_size=128, num_attention_heads=8, num_query_groups=4, vocab_size=256
    )
    made = [
        SimpleNamespace(
            **{"teacher": whole, "before": whole, "after": whole.model_copy(update={"num_layers": n}), "config": None},
            **{"where": f"cut.{n}", "distill_at": "distill"},
        )
        for n in (6, 5, 4)
    ]
    monkeypatch.setattr(sizing, "cuts", lambda recipe, name, teacher: made)
    monkeypatch.setattr(sizing, "teacher_shape", lambda recipe: whole)
    students = {"small": SimpleNamespace(search=searched or None, sft=None)}
    recipe: Any = SimpleNamespace(students=students, teacher=SimpleNamespace(steps=1, model=None, precision="fp32"))
    seen: list[Any] = []
    config = SimpleNamespace(stage="prune", writes=(), estimate=seen.append)
    planned: Any = SimpleNamespace(config=config, student="small", cut=cut)
    assert sizing.estimate(recipe, planned) == StageEstimate()
    assert (seen[0].after.num_layers, seen[0].where) == (layers, f"cut.{layers}")
