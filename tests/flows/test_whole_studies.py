"""`imbik study` as a user starts it: what it tries, shares and says, that nothing in its way changes it, and what it
refuses."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conf.report.study import StudyResult
from flows.planned_study import planned
from tests.fixtures.flow import RECIPE, imbik, left_behind, report_of, start, wait_for
from tests.fixtures.studies import STOP, STUDY, space_of

ROOT = RECIPE.parents[2]
NAME = "tried"
COMMAND = ["study", str(STUDY), "--name", NAME]
ONE_CORE = "import os\nos.cpu_count = lambda: 1\n"


def result_of(store: Path, name: str = NAME) -> StudyResult:
    return StudyResult.model_validate_json((store / "runs" / name / "study.json").read_text())


def weights(store: Path, name: str = NAME) -> dict[str, bytes]:
    """The weights of every model that a study taught."""
    folder = store / "runs" / name
    return {path.parts[-3]: path.read_bytes() for path in folder.glob("distill-*/model/model.safetensors")}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the study ran to its end, side by side and undisturbed."""
    store = tmp_path_factory.mktemp("study") / "store"
    done = imbik(*COMMAND, store=store)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return store


@pytest.mark.slow
def test_trials_share_what_they_can_and_have_results(studied: Path) -> None:
    found = result_of(studied)
    assert [trial.number for trial in found.trials] == [1, 2, 3, 4, 5, 6]
    assert [trial.round for trial in found.trials] == [1, 1, 1, 2, 2, 2]
    assert all(trial.values and not trial.failed for trial in found.trials)
    assert found.best == min(found.trials, key=lambda trial: trial.values or ()).number
    records = [json.loads(path.read_text()) for path in studied.glob("*/*/artifact.json")]
    made = [record["stage"] for record in records]
    assert [made.count(stage) for stage in ("data", "teacher", "importance", "prune")] == [1, 1, 1, 1]
    assert made.count("distill") == 1 + 6 + 2 * 2, "the recipe, the trials, two fresh seeds of the recipe and the best"
    for trial in found.trials:
        (record,) = [
            json.loads((path / "artifact.json").read_text())
            for path in (studied / "runs" / NAME).glob(f"distill-depth-t{trial.number}")
        ]
        assert record["config"]["lr"] == trial.point["distill.lr"]
        assert trial.tokens == record["config"]["steps"] * 4 * 64
        scores = json.loads((studied / "runs" / NAME / f"evaluate-depth-t{trial.number}" / "scores.json").read_text())
        assert trial.values == (scores["val_loss"],)


@pytest.mark.slow
def test_the_best_is_taught_again_before_it_is_called_better(studied: Path) -> None:
    found, fresh = result_of(studied), result_of(studied).fresh
    assert fresh is not None and found.best is not None and found.recipe_values is not None
    best = found.trials[found.best - 1]
    assert best.values and best.values[0] < found.recipe_values[0], "the recipe's rate is far too low"
    assert fresh.seeds == 2 and len(set(fresh.trial)) == 2 and len(set(fresh.recipe)) == 2
    assert fresh.luck == pytest.approx(sum(fresh.trial) / 2 - best.values[0])
    folder = studied / "runs" / NAME
    losses = [
        [
            json.loads((folder / f"evaluate-depth-{who}s{seed}-test" / "sequences.json").read_text())["val_loss"]
            for seed in (1, 2)
        ]
        for who in (f"t{found.best}-", "")
    ]
    means = [sum(map(sum, each)) / sum(map(len, each)) for each in losses]
    assert fresh.difference == pytest.approx(means[0] - means[1])
    assert fresh.items == len(losses[0][0])
    assert fresh.ci95 is not None and fresh.ci95[0] < fresh.difference < fresh.ci95[1]
    assert any(sentence.startswith("Taught again with 2 fresh seeds") for sentence in found.sentences)


@pytest.mark.drill
def test_a_trial_is_an_ordinary_run_with_overrides(studied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(studied, store, symlinks=True)
    point = result_of(store).trials[3].point
    before = {path.parent.name for path in store.glob("*/*/artifact.json")}
    done = imbik("run", str(STUDY), *(f"{key}={value}" for key, value in point.items()), "--name", "one", store=store)
    assert done.returncode == 0, done.stderr
    assert "leaves out its study" in done.stdout
    new = [json.loads(path.read_text()) for path in store.glob("*/*/artifact.json") if path.parent.name not in before]
    assert {record["stage"] for record in new} <= {"evaluate"}, "only scores on the test split are new"


@pytest.mark.drill
def test_a_second_study_builds_nothing_and_says_the_same(studied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(studied, store, symlinks=True)
    before = sorted(path.parent.name for path in store.glob("*/*/artifact.json"))
    done = imbik(*COMMAND, "--json", store=store)
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in store.glob("*/*/artifact.json")) == before
    assert StudyResult.model_validate(json.loads(done.stdout)) == result_of(studied)


def made(store: Path, stage: str) -> set[str]:
    return {path.parent.name for path in store.glob(f"{stage}/*/artifact.json")}


def value_then(store: Path, number: int) -> float:
    """The validation loss of a trial after step 3."""
    lines = (store / "runs" / "stopped" / f"distill-depth-t{number}" / "metrics.jsonl").read_text().splitlines()
    return next(line["values"]["val_loss"] for line in map(json.loads, lines) if line["step"] == 3)


@pytest.mark.drill
def test_trials_that_fall_behind_are_stopped(studied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(studied, store, symlinks=True)
    before = made(store, "distill")
    done = imbik("study", str(STUDY), *STOP, "--name", "stopped", store=store)
    assert done.returncode == 0, done.stderr
    found = result_of(store, "stopped")
    stopped, whole = ([trial for trial in found.trials if bool(trial.stopped) is early] for early in (True, False))
    assert len(made(store, "trunk")) == 4 and len(made(store, "distill") - before) == len(whole)
    assert stopped and all(trial.values for trial in whole)
    for trial in stopped:
        assert trial.stopped and (trial.stopped.step, trial.stopped.steps, trial.values) == (3, 6, None)
        assert trial.tokens == trial.stopped.tokens_saved == 3 * 4 * 64
    assert min(value_then(store, trial.number) for trial in whole) < min(
        trial.stopped.value for trial in stopped if trial.stopped
    )
    assert found.best in {trial.number for trial in whole}
    (told,) = [line for line in found.sentences if "stopped early" in line]
    assert f"{len(stopped)} trials were stopped early, after step 3 of 6" in told
    assert f"{len(stopped) * 3 * 4 * 64:,} of {4 * 6 * 4 * 64:,} training tokens were not spent" in told
    page = (store / "runs" / "stopped" / "report.html").read_text()
    assert "stopped after step 3 of 6 at" in page
    space = space_of(store, *STOP)
    states = {trial.number: state for trial, state in planned(space).trials}
    assert states == {
        trial.number: "stopped after step 3" if trial.stopped else "in the store" for trial in found.trials
    }
    alone = space.trial(whole[0].number, 1, whole[0].point)
    assert alone.stage("distill-depth").key in made(store, "distill"), "a whole trial has the key of an undivided run"


@pytest.mark.drill
def test_killed_and_one_job_at_a_time_ends_the_same(studied: Path, tmp_path: Path) -> None:
    """SIGKILL within the teacher, within a trial, between rounds and among fresh seeds, on one core."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(ONE_CORE)
    store, alone = tmp_path / "store", {"PYTHONPATH": f"{tmp_path / 'path'}:{ROOT}"}

    def sealed(stage: str) -> int:
        return len(list(store.glob(f"{stage}/*/artifact.json")))

    moments: tuple[Callable[[], Any], ...] = (
        lambda: list(store.glob(".work/teacher-*/checkpoints/step-*")),
        lambda: sealed("distill") == 2 and list(store.glob(".work/distill-*/metrics.jsonl")),
        lambda: sealed("distill") >= 5,
        lambda: sealed("distill") >= 8,
    )
    for moment in moments:
        process = start(*COMMAND, store=store, more=alone)
        try:
            wait_for(lambda due=moment, run=process: due() or run.poll() is not None, 600, "it did not get there")
            assert process.poll() is None, process.communicate()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not (store / "runs" / NAME / "study.json").exists()
        wait_for(lambda: not left_behind(store), 60, "jobs were left")
    done = imbik(*COMMAND, store=store, more=alone)
    assert done.returncode == 0, done.stderr
    assert result_of(store) == result_of(studied)
    assert weights(store) == weights(studied)


@pytest.mark.drill
def test_twenty_trials_killed_ten_times_end_the_same(tmp_path: Path) -> None:
    """SIGKILL within every second trial or between two, at a moment that the seed draws."""
    twenty = [*COMMAND, "study.trials=20", "study.round=5"]
    whole, store, draw = tmp_path / "whole" / "store", tmp_path / "killed" / "store", random.Random(7)
    for each in (whole, store):
        each.parent.mkdir()
    done = imbik(*twenty, store=whole)
    assert done.returncode == 0, done.stderr
    assert len(result_of(whole).trials) == 20
    for sealed in range(0, 20, 2):
        process = start(*twenty, store=store)
        try:
            wait_for(
                lambda due=sealed, run=process: len(made(store, "distill")) >= due or run.poll() is not None,
                600,
                f"{sealed} trials were not reached",
            )
            time.sleep(draw.uniform(0, 6))
            assert process.poll() is None, process.communicate()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not (store / "runs" / NAME / "study.json").exists()
        wait_for(lambda: not left_behind(store), 60, "jobs were left")
    done = imbik(*twenty, store=store)
    assert done.returncode == 0, done.stderr
    assert result_of(store) == result_of(whole)
    assert weights(store) == weights(whole)


@pytest.mark.slow
def test_the_report_has_the_trials_and_its_figures(studied: Path) -> None:
    report, found = report_of(studied, NAME), result_of(studied)
    assert [row["model"] for row in report["rows"]] == ["depth", f"depth-t{found.best}"]
    assert all((Path(row["path"]) / "config.json").is_file() for row in report["rows"])
    titles = [section["title"] for section in report["sections"]]
    assert titles == ["Trials", "What each key does to val_loss of depth", "With fresh seeds"]
    page = (studied / "runs" / NAME / "report.html").read_text()
    for figure in ("history", "parallel"):
        assert (studied / "runs" / NAME / "plots" / f"{figure}.svg").read_text().startswith("<svg")
    assert page.count("<svg") == 2
    assert "study" not in {run.name for run in (studied / "runs").iterdir()}


@pytest.mark.slow
def test_mlflow_has_trials_within_the_study(studied: Path) -> None:
    found = result_of(studied)
    with sqlite3.connect(studied / "mlflow.db") as database:
        runs = {
            run: (name, status) for run, name, status in database.execute("select run_uuid, name, status from runs")
        }
        above = dict(database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'"))
        params = list(database.execute("select run_uuid, key, value from params where key like 'distill.%'"))
        metrics = list(database.execute("select run_uuid, value from metrics where key = 'val_loss of depth'"))
    (parent,) = [run for run, (name, _) in runs.items() if name == NAME]
    trials = {name: run for run, (name, _) in runs.items() if above.get(run) == parent and name[1:].isdigit()}
    assert sorted(trials) == [f"t{trial.number}" for trial in found.trials]
    for trial in found.trials:
        run = trials[f"t{trial.number}"]
        own = {key: value for each, key, value in params if each == run}
        assert own == {key: str(value) for key, value in trial.point.items()}
        assert [value for each, value in metrics if each == run] == list(trial.values or ())
        stages = {runs[each][0] for each, over in above.items() if over == run}
        assert f"distill-depth-t{trial.number}" in stages
    assert {status for _, status in runs.values()} == {"FINISHED"}


@pytest.mark.slow
def test_a_plan_goes_through_what_is_in_the_store(studied: Path) -> None:
    found = planned(space_of(studied))
    assert [trial.point for trial, _ in found.trials] == [trial.point for trial in result_of(studied).trials]
    assert {state for _, state in found.trials} == {"in the store"}
    assert all(stage.pending == 0 for stage in found.stages)


@pytest.mark.drill
def test_trials_that_all_fail_are_told_with_the_reason(studied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(studied, store, symlinks=True)
    wild = ["study.space.distill.lr=[1.0e30, 2.0e30]", "study.sampler=random"]
    done = imbik("study", str(STUDY), *wild, store=store)
    assert done.returncode == 2
    assert "all 4 trials of the study failed, 4 of them like this: " in " ".join(done.stderr.split())
    assert "lower lr" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.drill
@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_study(studied: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(studied, store, symlinks=True)
    grid = ["study.space.distill.lr=[1.0e30, 1.0e-3]", "study.sampler=grid", "study.trials=null", "study.seeds=null"]
    objectives = "study.objectives=[{model: depth}, {model: depth, by: kl_teacher}]"
    done = imbik("study", str(STUDY), *grid, objectives, "--name", "two", store=store)
    assert done.returncode == 0, done.stderr
    found = result_of(store, "two")
    assert [trial.values is None for trial in found.trials] == [True, True, False, False]
    assert found.best is None and found.fresh is None
    assert [trial.on_front for trial in found.trials][:2] == [False, False]
    assert any(trial.on_front for trial in found.trials)
    assert any("2 trials failed, 2 of them like this" in sentence for sentence in found.sentences)
    assert (store / "runs" / "two" / "plots" / "front.svg").is_file()
