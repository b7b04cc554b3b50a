"""Whole runs under fire: any process of a run may be killed, hang or run out of memory. Nothing of it stays alive, nothing half made is
visible, the same command goes on, and the model is that of an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conf.spec import Record
from jobs import teacher as teacher_job
from jobs.entry import execute
from tests.flow_fixtures import RECIPE, imbik, left_behind, report_of, start, wait_for

pytestmark = pytest.mark.drill
SABOTAGE = Path(__file__).parent / "sabotage"
RUN = ["run", str(RECIPE), "teacher.steps=300", "students.width=null", "students.depth.quantize=false"]
RUN += ["students.depth.prune.num_layers=null", "students.depth.prune.drop_layers=[1]"]
RUN += ["distill=null", "evaluate.mmlu=null", "evaluate.new_tokens=0", "--name", "drill"]
PAIR = ["teacher.parallel.processes=2", "teacher.micro_batch=2"]
SECONDS = 10.0


def faults(marks: Path, drill: str, **more: str) -> dict[str, str]:
    """The environment in which processes of a run are sabotaged; each fault strikes once, as `marks` remembers."""
    marks.mkdir(exist_ok=True)
    return {"PYTHONPATH": f"{SABOTAGE}:{RECIPE.parents[2]}", "DRILL": drill, "DRILL_MARKS": str(marks)} | more


def reached(store: Path) -> int:
    """The step of the newest checkpoint of the teacher being trained; 0 before there is one."""
    return max((int(path.name.removeprefix("step-")) for path in store.glob(".work/teacher-*/checkpoints/step-*")), default=0)


@contextlib.contextmanager
def training(store: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    """A run in the middle of its teacher's training, with a checkpoint more than it found."""
    found = reached(store)
    process = start(*RUN, *overrides, store=store)
    try:
        wait_for(lambda: reached(store) > found or process.poll() is not None, 240, "no checkpoint was written")
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.wait()


def gone(store: Path) -> None:
    """Nothing of a run that was ended is alive, and nothing it did not finish is visible."""
    wait_for(lambda: not left_behind(store), SECONDS, f"still alive: {left_behind(store)}")
    assert not list(store.glob("teacher/*")), "sealed before it was whole"


def undisturbed(store: Path, output: Path) -> bytes:
    """The model that the sealed teacher's own spec gives in one go, in this process."""
    (sealed,) = store.glob("teacher/*")
    spec = json.loads((sealed / "spec.json").read_text()) | {"output": str(output)}
    output.with_suffix(".json").write_text(json.dumps(spec))
    assert execute(teacher_job.run, output.with_suffix(".json")) == 0
    return (output / "model" / "model.safetensors").read_bytes()


def test_however_a_run_is_ended_nothing_stays_and_the_same_command_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    never = imbik(*RUN, store=store, more=faults(tmp_path / "marks", "absent"))
    assert never.returncode == 1 and "its process exited with 127; the log is" in never.stderr
    assert "Traceback" not in never.stderr and not list(store.glob("data/*"))
    for sent in (signal.SIGKILL, signal.SIGINT):
        with training(store) as process:
            process.send_signal(sent)
            _, err = process.communicate(timeout=SECONDS + 20)
            assert process.returncode != 0
            assert "Traceback" not in err
            assert sent == signal.SIGKILL or err == "imbik: stopped; the same command continues from where it was\n"
        gone(store)
    first = min(store.glob(".work/teacher-*/metrics.jsonl")).read_text().splitlines()[:20]
    with training(store) as process:
        twin = start(*RUN, store=store)  # the same recipe at once: it waits, then takes over what the first has done
        wait_for(lambda: list((store / "runs" / "drill").glob("data")) and len(left_behind(store)) > 6, 60, "the twin did not start")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=SECONDS + 20)
        assert err == "imbik: stopped; the same command continues from where it was\n"
        _, err = twin.communicate(timeout=240)
        assert twin.returncode == 0, err
    lines = next(store.glob("teacher/*/metrics.jsonl")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(301))
    assert lines[:20] == first, "it began again instead of continuing"
    assert left_behind(store) == []
    (sealed,) = store.glob("teacher/*/model/model.safetensors")
    assert sealed.read_bytes() == undisturbed(store, tmp_path / "alone")


def test_ranks_of_torchrun_end_with_the_flow_and_the_flow_with_them(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for victim in ("rank", "torchrun"):
        with training(store, *PAIR) as process:
            ranks = [child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child)]
            assert len(ranks) == 2
            target = ranks[1] if victim == "rank" else ranks[1].parent()
            assert target is not None
            target.kill()
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1
            assert len(err.strip().splitlines()) == 1
            assert err.startswith("imbik: teacher: ")
            assert "ended by SIGKILL" in err and "continues" in err
        gone(store)


def is_rank(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "jobs.teacher" in command and "torch.distributed.run" not in command


def test_a_job_that_hangs_is_late_and_runs_out_of_memory_is_tried_again_and_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    more = faults(tmp_path / "marks", "stop@70 late@130 memory@190", IMBIK_HANG_SECONDS="6", IMBIK_TIME_LIMIT="3600")
    done = imbik(*RUN, store=store, more=more)
    assert done.returncode == 0, done.stderr
    (sealed,) = store.glob("teacher/*")
    record = Record.model_validate_json((sealed / "artifact.json").read_text())
    assert [attempt.reason for attempt in record.attempts] == ["hang", "time", "memory", "done"]
    assert [attempt.steps for attempt in record.attempts] == [60, 71, 49, 120], "what was saved is not done again"
    assert (record.config["micro_batch"], record.config["global_batch"], record.config["parallel"]["recompute"]) == (2, 4, True)
    assert not list(sealed.rglob("ended.json")) and not list(sealed.rglob("attempts.json"))
    section = next(section for section in report_of(store, "drill")["sections"] if section["title"] == "Attempts")
    assert [row[2] for row in section["rows"] if row[0] == "teacher"] == ["hung", "its time was up", "out of memory", "done"]
    with sqlite3.connect(store / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags where key like 'imbik.attempt.%'"))
    assert sorted(tags) == [f"imbik.attempt.teacher.{number}" for number in (2, 3, 4)]
    assert "micro_batch 2 in place of 4 and activations computed again" in tags["imbik.attempt.teacher.4"]
    log = next(tmp_path.rglob("prefect.db"), None)
    assert log, "Prefect's database is not under the run's folder"
    with sqlite3.connect(log) as database:
        (told,) = database.execute("select count(*) from log where message like 'attempt%'").fetchone()
    assert told == 3
    assert left_behind(store) == []
