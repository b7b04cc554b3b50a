"""Any process of a run may be killed: nothing of it stays alive, nothing half made is visible, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.flow_fixtures import RECIPE, imbik, left_behind, start, wait_for

pytestmark = pytest.mark.slow
RUN = ["run", str(RECIPE), "teacher.steps=400", "students.width=null", "students.depth.quantize=false"]
RUN += ["students.depth.prune.num_layers=null", "students.depth.prune.drop_layers=[1]"]
RUN += ["distill=null", "evaluate.mmlu=null", "--name", "killed"]
PAIR = ["teacher.parallel.processes=2", "teacher.micro_batch=2"]
SECONDS = 10.0


def reached(store: Path) -> int:
    """The step of the newest checkpoint of the teacher being trained; 0 before there is one."""
    return max((int(path.name.removeprefix("step-")) for path in store.glob(".work/teacher-*/checkpoints/step-*")), default=0)


@contextlib.contextmanager
def training(store: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    """A run in the middle of its teacher's training, with a checkpoint more than it found."""
    found = reached(store)
    process = start(*RUN, *overrides, store=store)
    try:
        wait_for(lambda: reached(store) > found or process.poll() is not None, 120, "no checkpoint was written")
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not left_behind(store), SECONDS, f"still alive: {left_behind(store)}")
    assert not list(store.glob("teacher/*")), "sealed before it was whole"


def ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The teacher's ranks under torchrun."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if is_rank(child)]


def is_rank(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "jobs.teacher" in command and "torch.distributed.run" not in command


def finishes(store: Path, *overrides: str) -> None:
    """The same command ends well, and no step was trained twice from the beginning."""
    first = min(store.glob(".work/teacher-*/metrics.jsonl")).read_text().splitlines()[:20]
    done = imbik(*RUN, *overrides, store=store)
    assert done.returncode == 0, done.stderr
    lines = next(store.glob("teacher/*/metrics.jsonl")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(401))
    assert lines[:20] == first, "it began again instead of continuing"
    assert left_behind(store) == []


def test_however_a_run_is_ended_nothing_stays_and_the_same_command_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for sent in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with training(store) as process:
            process.send_signal(sent)
            _, err = process.communicate(timeout=SECONDS + 20)
            assert process.returncode != 0
            assert "Traceback" not in err
            assert sent == signal.SIGKILL or err == "imbik: stopped; the same command continues from where it was\n"
    with training(store) as process:
        warm = [child for child in psutil.Process(process.pid).children(recursive=True) if "jobs.warm" in child.cmdline()]
        assert warm
        for child in warm:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "ended by SIGKILL" in err
    finishes(store)


def test_ranks_of_torchrun_end_with_the_flow_and_the_flow_with_them(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with training(store, *PAIR) as process:
        assert len(ranks(process)) == 2
        process.kill()
        process.wait()
    for victim in ("rank", "torchrun"):
        with training(store, *PAIR) as process:
            rank = ranks(process)[1]
            target = rank if victim == "rank" else rank.parent()
            assert target is not None
            target.kill()
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1
            assert len(err.strip().splitlines()) == 1
            assert err.startswith("imbik: teacher: ")
            assert "continues" in err
    finishes(store, *PAIR)
