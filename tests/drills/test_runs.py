"""A whole run under fire: its disk fills up, it is killed, stopped, started twice, it hangs, is late and runs out of
memory. Nothing of it stays alive, nothing half made is visible, the same command goes on, and the models are those of
an undisturbed run, bit for bit."""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conf.spec import Record
from jobs.runtime.entry import execute
from tests.drills.disks import mounted
from tests.fixtures.flow import RECIPE, imbik, left_behind, reached, report_of, start, wait_for

pytestmark = pytest.mark.drill
SABOTAGE = Path(__file__).parent / "sabotage"
RUN = [
    "run",
    str(RECIPE),
    "teacher.steps=100",
    "teacher.checkpoint_every=10",
    "students.width=null",
    "students.depth.quantize=false",
]
RUN += [
    "students.depth.prune.num_layers=null",
    "students.depth.prune.drop_layers=[1]",
    "evaluate.mmlu=null",
    "evaluate.new_tokens=0",
]
RUN += ["--name", "drill"]
STOPPED = "imbik: stopped; run the same command to continue\n"
SECONDS = 60.0
"""Far more than it takes; a machine may be busy."""


def faults(store: Path, drill: str, **more: str) -> dict[str, str]:
    """The environment in which processes of a run are sabotaged; each fault strikes once, as the marks beside the disk
    remember."""
    marks = marks_of(store)
    marks.mkdir(exist_ok=True)
    variables = {"DRILL": drill, "DRILL_MARKS": str(marks), "DRILL_FILLER": str(store.parent / "filler")}
    return {"PYTHONPATH": f"{SABOTAGE}:{RECIPE.parents[2]}"} | variables | more


def marks_of(store: Path) -> Path:
    return store.parents[1] / "marks"


@contextlib.contextmanager
def held(store: Path, step: int) -> Iterator[subprocess.Popen[str]]:
    """A run whose teacher is held before a step of its training, the last checkpoint before it on the disk."""
    mark = marks_of(store) / f"hold@{step}"
    process = start(*RUN, store=store, more=faults(store, mark.name))
    try:
        wait_for(lambda: mark.exists() or process.poll() is not None, 300, "it did not get there")
        assert process.poll() is None, process.communicate()
        wait_for(lambda: reached(store) >= step // 10 * 10, SECONDS, "no checkpoint was written")
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str], sent: signal.Signals) -> str:
    """End a held run by a signal; what it says."""
    process.send_signal(sent)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    return err


def nothing_is_left(store: Path) -> None:
    """Nothing of a run that was ended is alive, and nothing it did not finish is visible."""
    wait_for(lambda: not left_behind(store), SECONDS, f"still alive: {left_behind(store)}")
    assert not list(store.glob("teacher/*")), "sealed before it was whole"


def waits_for_the_teacher(store: Path) -> bool:
    """Whether a process waits for the lock of the teacher's build, as the kernel lists it."""
    inodes = {str(path.stat().st_ino) for path in store.glob(".work/teacher-*.lock")}
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if " -> FLOCK " in line]
    return any(word.rpartition(":")[2] in inodes for line in waiting for word in line)


def undisturbed(store: Path, stage: str, output: Path) -> bytes:
    """The model that a sealed artifact's own spec gives in one go, in this process."""
    (sealed,) = store.glob(f"{stage}/*")
    spec = json.loads((sealed / "spec.json").read_text()) | {"output": str(output)}
    output.with_suffix(".json").write_text(json.dumps(spec))
    assert execute(importlib.import_module(f"jobs.{stage}").run, output.with_suffix(".json")) == 0
    return (output / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store on a disk of its own."""
    with mounted(tmp_path / "disk", "size=256m") as disk:
        yield disk / "store"


def test_a_run_under_fire_ends_in_the_same_models(store: Path, tmp_path: Path) -> None:
    a_disk_that_fills_up_in_the_middle_of_a_checkpoint(store)
    two_at_once_one_killed_and_one_stopped(store)
    first = min(store.glob(".work/teacher-*/metrics.jsonl")).read_text().splitlines()[:20]
    done = imbik(
        *RUN,
        store=store,
        more=faults(store, "lock@75 late@85 memory@0", IMBIK_HANG_SECONDS="10", IMBIK_TIME_LIMIT="3600"),
        alone=True,
    )
    assert done.returncode == 0, done.stderr
    assert left_behind(store) == []
    lines = next(store.glob("teacher/*/metrics.jsonl")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(101))
    assert lines[:20] == first, "it began again instead of continuing"
    what_was_tried_is_told(store)
    for stage in ("teacher", "distill"):
        (model,) = store.glob(f"{stage}/*/model/model.safetensors")
        assert model.read_bytes() == undisturbed(store, stage, tmp_path / stage)


def a_disk_that_fills_up_in_the_middle_of_a_checkpoint(store: Path) -> None:
    failed = imbik(*RUN, store=store, more=faults(store, "full@25"), alone=True)
    assert failed.returncode != 0
    assert "the disk is full" in failed.stderr and "--store" in failed.stderr and "Traceback" not in failed.stderr
    nothing_is_left(store)
    assert reached(store) == 20
    assert not list(store.glob(".work/teacher-*/checkpoints/.*")), "half a checkpoint takes the room of a whole one"
    (store.parent / "filler").unlink()


def two_at_once_one_killed_and_one_stopped(store: Path) -> None:
    """The same recipe at once: the second waits, takes over what the killed first has done, and leaves it to the
    next."""
    with held(store, 45) as process:
        twin = start(*RUN, store=store, more=faults(store, "hold@65"))
        try:
            wait_for(lambda: waits_for_the_teacher(store) or twin.poll() is not None, 120, "the twin did not wait")
            assert twin.poll() is None, twin.communicate()
            ended(process, signal.SIGKILL)
            assert not list(store.glob("teacher/*")), "sealed before it was whole"
            wait_for((marks_of(store) / "hold@65").exists, 120, "the twin did not go on")
            twin.send_signal(signal.SIGINT)
            out, err = twin.communicate(timeout=SECONDS)
            assert (twin.returncode, err) == (130, STOPPED)
            assert "teacher: stopped" in out and "failed" not in out
        finally:
            twin.kill()
            twin.wait()
    nothing_is_left(store)
    assert reached(store) == 66, "it finished its step and saved"


def what_was_tried_is_told(store: Path) -> None:
    """In the record, in the report, in MLflow and in the Prefect log."""
    (teacher,), (student,) = store.glob("teacher/*"), store.glob("distill/*")
    tried = {path: Record.model_validate_json((path / "artifact.json").read_text()) for path in (teacher, student)}
    assert [attempt.reason for attempt in tried[teacher].attempts] == ["mistake", "hang", "time", "done"]
    assert [attempt.steps for attempt in tried[teacher].attempts] == [20, 4, 16, 14], "what was saved is not done again"
    assert "holds Python's lock" in tried[teacher].attempts[1].sentence
    assert [(attempt.reason, attempt.steps) for attempt in tried[student].attempts] == [("memory", 0), ("done", 6)]
    config = tried[student].config
    assert (config["micro_batch"], config["global_batch"], config["parallel"]["recompute"]) == (2, 4, True)
    assert not [path for folder in tried for name in ("ended.json", "attempts.json") for path in folder.rglob(name)]
    section = next(section for section in report_of(store, "drill")["sections"] if section["title"] == "Attempts")
    assert [row[2] for row in section["rows"] if row[0] == "teacher"] == ["refused", "hung", "time limit", "done"]
    assert [row[2] for row in section["rows"] if row[0] == "depth"] == ["out of memory", "done"]
    with sqlite3.connect(store / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags where key like 'imbik.attempt.%'"))
    assert sorted(tags) == ["imbik.attempt.distill-depth.2", "imbik.attempt.teacher.3", "imbik.attempt.teacher.4"]
    assert "micro_batch 2 instead of 4 and activation recomputation" in tags["imbik.attempt.distill-depth.2"]
    (log,) = store.parent.rglob("prefect.db")
    with sqlite3.connect(log) as database:
        (told,) = database.execute("select count(*) from log where message like 'attempt%'").fetchone()
    assert told == 3
