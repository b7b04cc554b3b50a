"""Trainings in parts: a run that goes on from a trunk's state equals the undivided one, bit for bit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from conf.spec import Spec
from conf.stages.distill import DistillConfig
from conf.stages.trunk import TrunkConfig, first_steps, stable_trunk
from jobs import trunk as program
from jobs.megatron import device, distilled
from tests.fixtures.jobs import TRAINING, killed_after_a_checkpoint, run_job

WSD = {"name": "wsd", "decay_share": 0.25, "decay": "minus_sqrt"}
CONFIG = TRAINING | {
    "steps": 24,
    "schedule": WSD,
    "validate_every": 5,
    "checkpoint_every": 5,
    "keep": "best",
    "average": {"kind": "ema", "decay": 0.9},
    "spikes": {"window": 8},
}


def logged(output: Path) -> list[tuple[int, dict[str, float]]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["values"]) for line in lines]


def weights(output: Path) -> bytes:
    return (output / "model" / "model.safetensors").read_bytes()


def trunk(config: TrunkConfig) -> dict[str, Any]:
    return config.model_dump(mode="json")


@pytest.fixture(scope="module")
def inputs(corpus: Path, teacher: Path, student: Path) -> dict[str, Path]:
    return {"data": corpus, "teacher": teacher, "student": student}


@pytest.mark.slow
def test_branches_equal_undivided_runs(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Two budgets, whose decays begin after steps 9 and 18; the second trunk goes on from the first, and the longer
    branch is killed."""
    whole = run_job("distill", CONFIG, inputs, tmp_path / "whole")
    short = CONFIG | {"steps": 12}
    whole_short = run_job("distill", short, inputs, tmp_path / "whole-short")
    config = DistillConfig.model_validate(CONFIG)
    first = run_job("trunk", trunk(stable_trunk(config, 9)), inputs, tmp_path / "trunk-9")
    onward = trunk(stable_trunk(config, 18)) | {"begun": 9}
    second = run_job("trunk", onward, inputs | {"trunk": first}, tmp_path / "trunk-18")
    branch_short = run_job("distill", short | {"begun": 9}, inputs | {"trunk": first}, tmp_path / "branch-12")
    branch = CONFIG | {"begun": 18}
    killed_after_a_checkpoint("distill", branch, inputs | {"trunk": second}, tmp_path / "branch-24")
    run_job("distill", branch, inputs | {"trunk": second}, tmp_path / "branch-24")
    for ours, undivided in ((branch_short, whole_short), (tmp_path / "branch-24", whole)):
        assert weights(ours) == weights(undivided)
        assert logged(ours) == logged(undivided)
        for file in ("kept.json", "average.json", "spikes.json"):
            assert (ours / file).read_bytes() == (undivided / file).read_bytes()
    assert [step for step, _ in logged(second)] == list(range(19))
    assert not (second / "model").exists()


@pytest.mark.drill
def test_the_first_steps_of_any_schedule_go_on_exactly(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = TRAINING | {"steps": 20, "patience": 50}
    whole = run_job("distill", config, inputs, tmp_path / "whole")
    begun = run_job("trunk", trunk(first_steps(DistillConfig.model_validate(config), 10)), inputs, tmp_path / "trunk")
    on = run_job("distill", config | {"begun": 10}, inputs | {"trunk": begun}, tmp_path / "on")
    assert (weights(on), logged(on)) == (weights(whole), logged(whole))
    assert logged(begun) == logged(whole)[:11]


def test_a_trunk_ends_after_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(device, "machine", lambda parallel, seed: contextlib.nullcontext(f"seed {seed}"))
    monkeypatch.setattr(distilled, "distil", lambda spec, config, on, until: ran.append((config.steps, on, until)))
    config = trunk(first_steps(DistillConfig.model_validate(CONFIG | {"seed": 5}), 8))
    program.run(Spec(stage="trunk", key="k", config=config, output=str(tmp_path)))
    assert ran == [(24, "seed 5", 8)]
