"""A job's ranks on this machine, forked from the warm process: what torchrun would do for them is done, however they
end."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from conf.parallel import Parallel
from conf.spec import Spec
from jobs.runtime import checkpoint_folder as checkpoints
from tasks.launch.errors import JobFailed, Stopped
from tasks.launch.local import LocalLauncher
from tests.fixtures.flow import left_behind, wait_for
from tests.fixtures.jobs import SHAPE, TRAINING, first, write_spec

pytestmark = pytest.mark.slow
PAIR = Parallel(processes=2, threads=1)
CONFIG = {"shape": SHAPE, **TRAINING, "micro_batch": 2, "parallel": PAIR.model_dump(mode="json")}


class Silent:
    """Is told a job's state and lines."""

    def state(self, text: str) -> None: ...

    def line(self, text: str) -> None: ...


class Running(threading.Thread):
    """A teacher that two ranks train, and how it ended."""

    def __init__(self, corpus: Path, output: Path, **settings: Any) -> None:
        super().__init__()
        output.mkdir()
        self.spec = Spec.model_validate_json(
            write_spec("teacher", CONFIG | settings, {"data": corpus}, output).read_text()
        )
        self.launcher, self.failed = LocalLauncher(), list[Exception]()
        self.start()

    def run(self) -> None:
        self.launcher.prepare()
        try:
            self.launcher.run(self.spec, PAIR, lambda line: None, lambda: None, Silent())
        except (JobFailed, Stopped) as error:
            self.failed.append(error)
        finally:
            self.launcher.stop()

    def ended(self) -> Exception | None:
        self.join(120)
        assert not self.is_alive(), "a process of the job outlives another"
        assert not left_behind(Path(self.spec.output))
        return self.failed[0] if self.failed else None


def test_two_forked_ranks_make_what_one_process_makes(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    running = Running(corpus, tmp_path / "pair", steps=12, validate_every=12)
    assert running.ended() is None
    assert first(tmp_path / "pair", "val_loss") == pytest.approx(first(teacher, "val_loss"), rel=1e-5), (
        "the same weights, halves of each batch"
    )
    assert {path.name for path in (tmp_path / "pair").iterdir()} >= {"model", "metrics.jsonl", "job.log"}


@pytest.mark.drill
def test_a_rank_that_refuses_is_the_one_sentence(corpus: Path, tmp_path: Path) -> None:
    failed = Running(corpus, tmp_path / "pair", steps=12, seq_length=1000).ended()
    assert isinstance(failed, JobFailed) and failed.reason == "mistake" and "1000" in str(failed)


@pytest.mark.drill
def test_a_rank_that_is_killed_is_named_and_its_peer_ends(corpus: Path, tmp_path: Path) -> None:
    running, output = Running(corpus, tmp_path / "pair", steps=2000), tmp_path / "pair"
    wait_for(lambda: checkpoints.existing(output / "checkpoints") or not running.is_alive(), 240, "it did not begin")
    pids = [json.dumps(path.read_text()).split()[1] for path in sorted((output / "heartbeats").glob("rank-?"))]
    os.kill(int(pids[1]), signal.SIGKILL)
    failed = running.ended()
    assert isinstance(failed, JobFailed) and failed.reason == "killed"
    assert str(failed).startswith("teacher: rank 1 was ended by SIGKILL; run the same command again to continue")


@pytest.mark.drill
def test_stopping_ends_all_ranks_after_their_step(corpus: Path, tmp_path: Path) -> None:
    running, output = Running(corpus, tmp_path / "pair", steps=2000), tmp_path / "pair"
    wait_for(lambda: checkpoints.existing(output / "checkpoints") or not running.is_alive(), 240, "it did not begin")
    running.launcher.stop()
    assert isinstance(running.ended(), Stopped)
    assert "stopped after step" in (output / "job.log").read_text(), "both ranks agreed on a step and saved it"
