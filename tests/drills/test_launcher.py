"""Processes of a job under fire, as the launcher of this machine runs them: torchrun, its ranks, and one that cannot
start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conf.parallel import Parallel
from conf.spec import Spec
from jobs.runtime import checkpoint_folder as checkpoints
from tasks.launch.errors import JobFailed
from tasks.launch.local import LocalLauncher
from tests.drills.test_runs import SABOTAGE
from tests.fixtures.flow import RECIPE, left_behind, wait_for
from tests.fixtures.jobs import SHAPE, TRAINING, write_spec

pytestmark = pytest.mark.drill
PAIR = Parallel(processes=2, threads=1)
CONFIG = {"shape": SHAPE, **TRAINING, "steps": 2000, "micro_batch": 2, "parallel": PAIR.model_dump(mode="json")}


class Silent:
    """Is told a job's state and lines."""

    def state(self, text: str) -> None: ...

    def line(self, text: str) -> None: ...


class Running(threading.Thread):
    """A job that the launcher runs; how it failed."""

    def __init__(self, spec: Spec, parallel: Parallel) -> None:
        super().__init__()
        self.spec, self.parallel, self.failed = spec, parallel, None  # type: tuple[Spec, Parallel, JobFailed | None]
        self.start()

    def run(self) -> None:
        try:
            LocalLauncher(warm=False).run(self.spec, self.parallel, lambda line: None, lambda: None, Silent())
        except JobFailed as error:
            self.failed = error

    def failure(self) -> JobFailed:
        self.join(60)
        assert not self.is_alive(), "a process of the job outlives another"
        assert self.failed
        return self.failed


def spec_of(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path) -> Spec:
    output.mkdir()
    return Spec.model_validate_json(write_spec(stage, config, inputs, output).read_text())


def is_rank(process: psutil.Process) -> bool:
    command = process.cmdline()
    return "jobs.teacher" in command and "torch.distributed.run" not in command


def killed(running: Running, begun: Callable[[], object], victim: str) -> JobFailed:
    """How the job fails when one of its processes is killed once it has `begun`; nothing of it stays."""
    wait_for(lambda: begun() or not running.is_alive(), 240, "it did not begin")
    assert running.is_alive(), running.failed
    ranks = [process for process in psutil.Process().children(recursive=True) if is_rank(process)]
    assert len(ranks) == 2
    target = ranks[1] if victim == "rank" else ranks[1].parent()
    assert target is not None
    target.kill()
    failed = running.failure()
    wait_for(lambda: not left_behind(Path(running.spec.output)), 60, "a process of the job is still alive")
    return failed


def test_torchrun_ends_with_a_rank_in_the_middle_of_its_training(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    running = Running(spec_of("teacher", CONFIG, {"data": corpus}, output), PAIR)
    failed = killed(running, lambda: checkpoints.existing(output / "checkpoints"), "rank")
    assert failed.reason == "killed"
    assert str(failed).startswith("teacher: rank 1 was ended by SIGKILL; run the same command again to continue")


def test_ranks_end_with_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PYTHONPATH": f"{SABOTAGE}:{RECIPE.parents[2]}",
        "DRILL": "idle",
        "DRILL_MARKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    running = Running(spec_of("teacher", CONFIG, {}, tmp_path / "out"), PAIR)
    failed = killed(running, lambda: len(list(tmp_path.glob("rank-?"))) == 2, "torchrun")
    assert failed.reason == "killed"
    assert str(failed).startswith("teacher: its process was ended by SIGKILL; run the same command again to continue")


def test_a_worker_that_never_starts_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{SABOTAGE}:{RECIPE.parents[2]}")
    monkeypatch.setenv("DRILL", "absent")
    failed = Running(spec_of("data", {"source": "world"}, {}, tmp_path / "out"), Parallel()).failure()
    assert "its process exited with 127; see its log" in str(failed) and failed.reason == "fault"
