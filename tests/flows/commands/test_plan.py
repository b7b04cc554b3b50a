"""What a plan prints and how it ends: the totals below its tables by hand, and what it says of single stages."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from conf.cluster import LOCAL
from conf.estimate.numbers import StageEstimate
from conf.gates import Gate
from conf.stages.data import DataConfig
from conf.stages.prune import PruneConfig
from conf.stages.quantize import QuantizeConfig
from flows import sizing
from flows.commands import plan
from flows.doctor import processor
from tasks.launch import gpus
from tests.fixtures.flow import RECIPE


def stage(label: str = "a", cached: bool = False, against: str = "", **sizes: Any) -> Any:
    numbers = StageEstimate(disk=sizes.get("disk"), scratch=sizes.get("scratch"))
    planned = SimpleNamespace(label=label, cached=cached, against=against)
    gpus, hours = sizes.get("gpus", 0), sizes.get("gpu_hours")
    return SimpleNamespace(stage=planned, numbers=numbers, gpus=gpus, gpu_hours=hours)


def test_disk_is_added_up_and_checkpoints_are_not() -> None:
    told = plan._about([stage(disk=2 * 10**9, scratch=10**9), stage(disk=10**9, scratch=3 * 10**9), stage()])
    assert told.startswith("memory is the estimated peak over all processes of a job")
    assert "3 GB in total where known, and up to 3 GB more for checkpoints" in told
    assert "0 B in total where known, and up to 0 B more" in plan._about([])
    assert plan._about([stage(against="first")]).startswith("what differs: from the run first; memory is")


def test_hours_of_stages_that_run_add_up() -> None:
    stages = [stage(gpus=8, gpu_hours=80.0), stage(gpus=2, gpu_hours=40.0), stage(gpus=1, gpu_hours=500.0, cached=True)]
    assert "120 GPU-hours, 30.0 h if stages run one after another" in plan._about([*stages, stage()])
    assert "GPU-hours" not in plan._about(stages[2:])


def test_time_on_this_machine_is_shared_by_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(processor, "flops", lambda: 2.5e10)
    stages = [stage("a"), stage("b"), stage("c", cached=True), stage("d")]
    told = plan._about_cpu(stages, {"a": 4 * 3600.0, "b": 4 * 3600.0, "c": 1e9})
    assert told.startswith("4 cores of ") and "25 GFLOP/s in fp32 each" in told
    assert "stages with a time take about 2.0 h on all cores" in told


@pytest.mark.parametrize(
    ("kind", "visible", "known"), [("local", [], True), ("local", ["0"], False), ("slurm", [], False)]
)
def test_times_are_of_a_run_on_this_machines_processor(
    kind: str, visible: list[str], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "visible", lambda: visible)
    monkeypatch.setattr(processor, "flops", lambda: 1e9)
    work = SimpleNamespace(core_seconds=lambda flops: 4e9 / flops)
    stages: Any = [
        SimpleNamespace(stage=SimpleNamespace(label=label), numbers=SimpleNamespace(work=each))
        for label, each in (("teacher", work), ("data", None))
    ]
    cluster: Any = SimpleNamespace(kind=kind)
    assert plan._on_cpu(cluster, stages) == ({"teacher": 4.0} if known else {})


def test_ranks_are_told_of_data_stages_that_run() -> None:
    def data(label: str, ranks: int, cached: bool = False) -> Any:
        config = DataConfig.model_validate({"source": ["world"], "ranks": ranks})
        return SimpleNamespace(stage=SimpleNamespace(label=label, config=config, cached=cached))

    pruned: Any = SimpleNamespace(
        stage=SimpleNamespace(label="prune", config=PruneConfig.model_validate({"num_layers": 2}), cached=False)
    )
    lines = plan._ranks_told([data("one", 1), data("two", 2), data("there", 3, cached=True), pruned], LOCAL)
    assert lines[0].startswith("two: 2 ranks of ") and not [line for line in lines if line.startswith(("one", "there"))]
    assert plan._ranks_as_json(data("one", 1), LOCAL) == plan._ranks_as_json(pruned, LOCAL) == {}
    assert plan._ranks_as_json(data("two", 2), LOCAL)["curation"]["ranks"] == 2


def test_a_gate_says_what_it_judges(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"after": "distill", "metric": "mmlu", "by": "ratio", "at_least": 0.5}
    gates = {"sure": Gate.model_validate(settings), "rough": Gate.model_validate(settings | {"confidence": "none"})}
    recipe: Any = SimpleNamespace(students=["small"], gates_of=lambda _: gates)
    told: list[str] = []
    monkeypatch.setattr(plan.out, "print", lambda text, **_: told.append(text))
    plan._gates(recipe)
    assert told[0].startswith("gate sure after distill of small: ")
    assert told[0].endswith("for the worse end of the 95% interval") and told[1].endswith("for the estimate")


def test_engines_are_told_of_quantized_models_alone() -> None:
    fp8 = plan._engines(QuantizeConfig.model_validate({"format": "fp8"}), experts=False, family="llama")
    assert fp8 and "vllm" in fp8
    assert plan._engines(PruneConfig.model_validate({"num_layers": 2}), experts=False, family="llama") is None


@pytest.mark.parametrize("misfit", [None, "it needs 5 TB"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_plan_ends_with_2_where_a_stage_does_not_fit(
    as_json: bool, misfit: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr(gpus, "visible", lambda: ["0"])
    told: list[Any] = []
    monkeypatch.setattr(plan.out, "print", lambda *text, **_: told.extend(text))
    monkeypatch.setattr(plan, "print_json", told.append)
    of = sizing.sized

    def sized(*given: Any) -> list[Any]:
        first, second, *others = of(*given)
        waiting = dataclasses.replace(second.stage, waits="a search")
        return [dataclasses.replace(first, misfit=misfit), dataclasses.replace(second, stage=waiting), *others]

    monkeypatch.setattr(sizing, "sized", sized)
    with pytest.raises(typer.Exit) as ended:
        plan.plan(str(RECIPE), ["evaluate.mmlu=null"], tmp_path / "store", "local", as_json)
    assert ended.value.exit_code == (2 if misfit else 0)
    if as_json:
        first, second, *_ = told[0]
        assert (first["does_not_fit"], first["waits"], second["waits"]) == (misfit, None, "a search")
        assert json.dumps(told[0])
    else:
        assert (f"does not fit: {misfit}" in told) == bool(misfit)
