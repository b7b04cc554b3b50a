"""What trials cost, when a budget ends a study, what it refuses, and that the same results bring the same trials."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import load_cluster
from flows import rounds
from flows.rounds import Cost, Space
from tasks.analysis.study.stopping import Stopped
from tests.fixtures.studies import STOP, space_of, stage, trial


def test_costs_add_up_and_are_shared() -> None:
    one, other = Cost(tokens=10, gpu_hours=3.0), Cost(tokens=4, gpu_hours=0.5)
    assert one + other == Cost(tokens=14, gpu_hours=3.5)
    assert one - other == Cost(tokens=6, gpu_hours=2.5)
    assert one.share(0.25) == Cost(tokens=2, gpu_hours=0.75)
    assert Cost() == Cost(tokens=0, gpu_hours=0.0)


def test_a_stopped_trial_costs_its_own_students_first_steps() -> None:
    """The other student is not made before the point, what all students need is."""
    assert trial().cost == Cost(tokens=146, gpu_hours=7.5)
    assert trial().cost_until("b", 4) == Cost(tokens=5 + 1 + 16, gpu_hours=1 + 0.5 + 1.6)
    assert trial().cost_until("a", 2) == Cost(tokens=5 + 25, gpu_hours=1.5)
    assert trial(own={}).cost_until("b", 4) == Cost()
    assert (trial().mark, trial().stage("prune-b").label) == ("t1", "prune-b")


@pytest.mark.parametrize(
    ("budget", "spent", "told"),
    [
        ({}, Cost(tokens=10**9, gpu_hours=1e9), ""),
        ({"tokens": 1000}, Cost(tokens=1000), ""),
        ({"tokens": 1000}, Cost(tokens=1001), "the next trial would go beyond study.tokens 1,000"),
        ({"gpu_hours": 2.5}, Cost(gpu_hours=2.5), ""),
        ({"gpu_hours": 2.5}, Cost(gpu_hours=2.6), "the next trial would go beyond study.gpu_hours 2.5"),
        (
            {"tokens": 1000, "gpu_hours": 2.5},
            Cost(tokens=5, gpu_hours=3),
            "the next trial would go beyond study.gpu_ho",
        ),
    ],
)
def test_a_budget_may_be_spent_to_the_last_token(budget: dict[str, float], spent: Cost, told: str) -> None:
    study: Any = SimpleNamespace(**{"tokens": None, "gpu_hours": None} | budget)
    assert rounds._over(study, spent).startswith(told) and bool(told) == bool(rounds._over(study, spent))


def test_a_stage_changes_by_its_key_or_by_being_there() -> None:
    one = [stage("data", key="1"), stage("teacher", key="2"), stage("sft", key="3")]
    other = [stage("data", key="1"), stage("teacher", key="9")]
    assert rounds._changed([one, other]) == rounds._changed([other, one]) == {"teacher", "sft"}
    assert rounds._changed([one, one]) == rounds._changed([one]) == set()


def test_the_tokens_of_the_trials_end_a_study(tmp_path: Path) -> None:
    space = space_of(tmp_path, "study.tokens=3500", "study.trials=null")
    source, spent = rounds.rounds(space), 0
    asked = next(source)
    while True:
        spent += sum(trial.cost.tokens for trial in asked)
        try:
            asked = source.send([(3.0,)] * len(asked))
        except StopIteration as end:
            assert end.value == "the next trial would go beyond study.tokens 3,500"
            break
    assert 0 < spent <= 3500


def test_what_stopped_trials_save_is_spent_on_others(tmp_path: Path) -> None:
    def trials(*, stop: bool) -> int:
        space = space_of(tmp_path, *STOP, "study.trials=null", "study.tokens=12000")
        source, count = rounds.rounds(space), 0
        asked = next(source)
        while True:
            count += len(asked)
            stopped = [Stopped(3, 3.0, trial.cost_until("depth", 3).tokens) for trial in asked]
            assert all(each.tokens == 3 * 4 * 64 for each in stopped)
            try:
                asked = source.send(stopped if stop else [(3.0,)] * len(asked))
            except StopIteration:
                return count

    assert (trials(stop=False), trials(stop=True)) == (7, 13)


def test_gpu_hours_need_gpus_and_end_a_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the GPU-hours of the trials are not known: this cluster names no GPU"):
        space_of(tmp_path, "study.gpu_hours=1")
    space = space_of(tmp_path, "study.trials=null")
    slurm = Space(space.values, space.study, load_cluster("slurm", []), tmp_path)
    one = slurm.trial(1, 1, {"distill.lr": 2e-3, "distill.steps": 6}).cost.gpu_hours
    assert one > 0
    few = space.study.model_copy(update={"gpu_hours": 2.5 * one, "trials": None})
    source = rounds.rounds(Space(space.values, few, load_cluster("slurm", []), tmp_path))
    asked = next(source)
    with pytest.raises(StopIteration, match=re.escape("would go beyond study.gpu_hours")):
        while True:
            asked = source.send([(3.0,)] * len(asked))


def test_the_same_results_bring_the_same_trials_again(tmp_path: Path) -> None:
    def played(until: int) -> list[dict[str, Any]]:
        source, points = rounds.rounds(space_of(tmp_path)), list[dict[str, Any]]()
        asked = next(source)
        while len(points) < until:
            points += [trial.point for trial in asked]
            results = [None if trial.number == 2 else (trial.point["distill.lr"],) for trial in asked]
            try:
                asked = source.send(results)
            except StopIteration:
                break
        return points

    assert played(99)[:3] == played(3)
    assert played(99) == played(99)


NONE = ["study.space.distill.lr=null", "study.space.distill.steps=null"]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([*NONE, "study.space.distill.micro_batch=[2, 4]"], r"study\.space\.distill\.micro_batch changes no model"),
        (["students.depth.distill={steps: 5}"], r"study\.space\.distill\.steps changes no model"),
        (["study.tokens=10"], "the study has no trial: the next trial would go beyond study.tokens 10; raise its"),
        ([*NONE, "study.space.data.vocab_size=[300, 400]"], "changes the stage data, and val_loss cannot be compared"),
        (
            [*NONE, "study.space.teacher.lr=[1e-3, 2e-3]", "study.objectives=[{model: depth, by: kl_teacher}]"],
            "teacher",
        ),
        (["study.space.distill.lr=null", "study.space.distill.steps=null"], "study.space is .*; it must not be empty"),
    ],
)
def test_what_cannot_be_compared_is_refused(overrides: list[str], part: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=part):
        space_of(tmp_path, *overrides)


def test_a_study_has_as_many_trials_as_it_says(tmp_path: Path) -> None:
    source, count = rounds.rounds(space_of(tmp_path, "study.trials=5", "study.round=2")), 0
    asked = next(source)
    with pytest.raises(StopIteration, match="its budget of 5 trials is spent"):
        while True:
            count += len(asked)
            asked = source.send([(3.0,)] * len(asked))
    assert count == 5


def test_a_grid_ends_with_all_of_its_points(tmp_path: Path) -> None:
    grid = ["study.sampler=grid", "study.trials=null", "study.space.distill.lr=[1e-3, 2e-3]", "study.round=9"]
    source = rounds.rounds(space_of(tmp_path, *grid))
    asked = next(source)
    with pytest.raises(StopIteration, match="all 4 points of the space were tried"):
        source.send([(3.0,)] * len(asked))


def test_only_a_study_that_stops_trials_has_points_on_the_way(tmp_path: Path) -> None:
    plain, stopping = space_of(tmp_path), space_of(tmp_path, *STOP)
    assert (plain.student, plain.steps, plain.length) == ("", (), 0)
    assert (stopping.student, stopping.steps, stopping.length) == ("depth", (3,), 6)
