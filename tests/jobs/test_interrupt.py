"""A job keeps its time limit itself, whatever it does: what cannot stop at a boundary is ended with the reason, not
left to a scheduler."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.cluster import LOCAL, Cluster, Resources, SlurmCluster
from conf.spec import ENDED, EXIT_CODES, JobExit
from jobs.runtime import interrupt
from tasks.launch.protocol import limits
from tests.fixtures.clock import Clock
from tests.fixtures.jobs import write_spec

JOB = """
import contextlib, sys, time
from pathlib import Path
from jobs.runtime import interrupt
from jobs.runtime.entry import execute

def run(spec):
    with interrupt.stoppable() if spec.config["loop"] else contextlib.nullcontext():
        begun = time.monotonic()
        while True:
            time.sleep(0.01)
            with Path(spec.output, "ran").open("a") as stream:
                print(time.monotonic() - begun, file=stream)

sys.exit(execute(run, Path(sys.argv[1]), alone=True))
"""


@pytest.mark.parametrize(("loop", "least"), [(False, 0.3), (True, 1.5)])
def test_job_past_its_time_limit_ends_itself(tmp_path: Path, loop: bool, least: float) -> None:
    spec = write_spec("teacher", {"loop": loop}, {}, tmp_path / "out")
    limits = {"IMBIK_TIME_LIMIT": "2", "IMBIK_TIME_MARGIN": "1.9", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(spec)], env=os.environ | limits, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_CODES["time"], done.stderr
    told = JobExit.model_validate_json((tmp_path / "out" / ENDED).read_text())
    assert (told.reason, told.sentence) == ("time", "the time limit of 2 s is near and the job is not finished")
    assert done.stderr == f"imbik-error: {told.sentence}\n"
    assert least < float((tmp_path / "out" / "ran").read_text().split("\n")[-2])


def test_without_a_clusters_limit_the_users_own_counts() -> None:
    assert limits(LOCAL, "teacher") == {}, "IMBIK_TIME_LIMIT and IMBIK_TIME_MARGIN of the shell reach the job"
    limited = LOCAL.model_copy(update={"defaults": Resources(time_limit_minutes=2, margin_seconds=30)})
    assert limits(limited, "teacher") == {"IMBIK_TIME_LIMIT": "120", "IMBIK_TIME_MARGIN": "30"}
    queued = Cluster(kind="slurm", slurm=SlurmCluster())
    assert limits(queued, "teacher") == {"IMBIK_TIME_MARGIN": "120"}, "its queue may have a limit"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock(100.0)
    monkeypatch.setattr(interrupt, "time", made)
    monkeypatch.setattr(interrupt, "_stop", interrupt._Stop())
    yield made


def start(monkeypatch: pytest.MonkeyPatch, limit: str, margin: str = "") -> None:
    monkeypatch.setenv("IMBIK_TIME_LIMIT", limit)
    monkeypatch.setenv("IMBIK_TIME_MARGIN", margin)
    interrupt.start()


@pytest.mark.parametrize(("limit", "margin", "last"), [("300", "", 280), ("300", "20", 380), ("300", "0", 400)])
def test_a_loop_stops_a_margin_before_the_limit(
    limit: str, margin: str, last: float, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(monkeypatch, limit, margin)
    clock.now = last - 0.5
    assert interrupt.stop_requested() is None
    interrupt.raise_if_stopping("nowhere")
    clock.now = last
    assert interrupt.stop_requested() == "time"
    with pytest.raises(interrupt.Interrupted, match="the time limit is near: stopped at 3;") as raised:
        interrupt.raise_if_stopping("at 3")
    assert raised.value.reason == "time"
    start(monkeypatch, "", margin)
    assert interrupt.stop_requested() is None, "another attempt has its own"


@pytest.mark.parametrize(("limit", "margin"), [("120", ""), ("20", "20"), ("20", "30")])
def test_a_limit_within_its_margin_is_refused(
    limit: str, margin: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=f"IMBIK_TIME_LIMIT is {limit} s, no longer than the margin"):
        start(monkeypatch, limit, margin)
    assert interrupt.stop_requested() is None


def test_a_limit_that_is_no_number_is_refused(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="IMBIK_TIME_LIMIT is 'soon', not a number of seconds"):
        start(monkeypatch, "soon")


@pytest.mark.parametrize(
    ("loop", "late", "ended"), [(False, 0, 390.0), (True, 0, 400.0), (False, 295, 395.0), (True, 350, 450.0)]
)
def test_the_deadline_is_enforced(
    loop: bool, late: float, ended: float, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a margin early, but at the limit itself for a loop that can save; at once where it has passed."""
    told: list[Any] = []

    class Now:
        """A thread that runs when it is started."""

        def __init__(self, target: Any, name: str, daemon: bool) -> None:
            assert daemon
            self.start = target

    monkeypatch.setattr(interrupt.threading, "Thread", Now)
    start(monkeypatch, "300", "20")
    interrupt._stop.loops = int(loop)
    clock.now += late
    interrupt.enforce_deadline(lambda sentence: told.append((clock.now, sentence)))
    assert told == [(ended, "the time limit of 300 s is near and the job is not finished")]
    start(monkeypatch, "")
    interrupt.enforce_deadline(told.append)
    assert len(told) == 1, "without a limit"


def test_sigterm_waits_for_a_boundary_of_a_loop(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(interrupt.threading, "Thread", lambda **_: type("Idle", (), {"start": lambda self: None})())
    monkeypatch.setattr(interrupt.os, "register_at_fork", lambda **_: None)
    interrupt.start()
    try:
        interrupt.install_sigterm(lambda: ends.append("ended"))
        handler: Any = signal.getsignal(signal.SIGTERM)
        with interrupt.stoppable(), interrupt.stoppable():
            assert interrupt.stop_requested() is None
            handler()
            assert (ends, interrupt.stop_requested()) == ([], "terminated")
        handler()
        assert ends == ["ended"]
    finally:
        interrupt._restore_default()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.set_wakeup_fd(-1) == -1
        signal.signal(signal.SIGTERM, before)


def test_the_time_limit_is_more_urgent_than_sigterm(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, "300", "20")
    interrupt._stop.terminated.set()
    assert interrupt.stop_requested() == "terminated"
    clock.now = 1000.0
    assert interrupt.stop_requested() == "time"
    interrupt.start()
    assert not interrupt._stop.terminated.is_set()
