"""What the watchdog reads of ranks, when it ends a job, and whom it blames; with pulse files written by hand."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.spec import ENDED
from jobs.runtime import heartbeat, watchdog
from jobs.runtime.watchdog import Rank
from tests.fixtures.clock import Clock

HOST = os.uname().nodename
ME = os.getpid()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watchdog, "time", made)
    return made


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Signals in the place of those that would be sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(watchdog.os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def pulse(path: Path, pulses: int, progress: int, expected: int = 1, attempt: str = "a", pid: int = ME) -> Path:
    path.write_text(f"{attempt} {pid} {heartbeat.started(ME)} {HOST} {pulses} {progress} {expected}")
    return path


def rank_at(clock: Clock, silent: float, stuck: float, progress: int) -> Rank:
    """A rank of which something was last heard some seconds ago."""
    rank = Rank(pid=ME, start=heartbeat.started(ME), host=HOST, expected=True, progress=progress)
    rank.alive_at, rank.progress_at = clock.now - silent, clock.now - stuck
    return rank


def test_pulses_and_progress_are_dated_apart(clock: Clock, tmp_path: Path) -> None:
    rank, path = Rank(), tmp_path / "rank-0"
    rank.read(pulse(path, 0, 0), "a")
    assert (rank.pid, rank.host, rank.expected) == (ME, HOST, True)
    clock.now += 5
    rank.read(pulse(path, 1, 0), "a")
    assert (rank.alive_at, rank.progress_at) == (1005.0, 1000.0)
    clock.now += 5
    rank.read(pulse(path, 1, 1), "a")
    assert (rank.alive_at, rank.progress_at) == (1005.0, 1010.0)
    clock.now += 5
    rank.read(path, "a")
    assert (rank.alive_at, rank.progress_at) == (1005.0, 1010.0)


def test_time_without_expectation_does_not_count(clock: Clock, tmp_path: Path) -> None:
    rank, path = Rank(), tmp_path / "rank-0"
    rank.read(pulse(path, 0, 0), "a")
    rank.read(pulse(path, 1, 0, expected=0), "a")
    assert not rank.expected
    clock.now += 50
    rank.read(pulse(path, 1, 0), "a")
    assert rank.expected and (rank.alive_at, rank.progress_at) == (1050.0, 1050.0)


def test_a_new_process_begins_anew(clock: Clock, tmp_path: Path) -> None:
    rank, path = Rank(), tmp_path / "rank-0"
    rank.read(pulse(path, 3, 3), "a")
    clock.now += 50
    rank.read(pulse(path, 3, 3, pid=1), "a")
    assert (rank.pid, rank.alive_at, rank.progress_at) == (1, 1050.0, 1050.0)


@pytest.mark.parametrize("content", [None, "", "a 1 2", "other 1 2 host 0 0 1"])
def test_what_is_no_pulse_of_this_attempt_expects_nothing(content: str | None, clock: Clock, tmp_path: Path) -> None:
    rank, path = Rank(), tmp_path / "rank-0"
    rank.read(pulse(path, 0, 0), "a")
    path.unlink()
    if content is not None:
        path.write_text(content)
    rank.read(path, "a")
    assert not rank.expected and rank.pid == ME


def test_a_process_is_known_by_its_start_and_host() -> None:
    start = heartbeat.started(ME)
    assert Rank(pid=ME, start=start, host=HOST).is_local
    assert not Rank(pid=ME, start=start + "1", host=HOST).is_local, "the number was used again"
    assert not Rank(pid=ME, start=start, host="elsewhere").is_local
    assert not Rank(pid=2**22 + 1, start=start, host=HOST).is_local


@pytest.mark.parametrize(
    ("silences", "progress", "culprit", "words"),
    [
        ((1.0, 1.0, 1.0), (5, 3, 4), 1, "is alive but makes no progress"),
        ((1.0, 5.0, 50.1), (1, 1, 1), 2, "is stopped or holds Python's lock"),
        ((50.0, 1.0, 1.0), (2, 2, 1), 2, "is alive but makes no progress"),
        ((1.0, 60.0, 70.0), (1, 2, 2), 1, "is stopped or holds Python's lock"),
    ],
)
def test_the_rank_that_hangs_is_named(
    silences: tuple[float, ...],
    progress: tuple[int, ...],
    culprit: int,
    words: str,
    clock: Clock,
    killed: list[tuple[int, int]],
    tmp_path: Path,
) -> None:
    """One without a pulse for half of the deadline, else the one that is furthest behind."""
    ranks = [rank_at(clock, silent, 100, progress=done) for silent, done in zip(silences, progress, strict=True)]
    ranks[0].host = "elsewhere"
    watchdog.end_job(tmp_path, ranks, 100.0, 1.0)
    told = json.loads((tmp_path / ENDED).read_text())
    assert (told["reason"], told["rank"]) == ("hang", culprit)
    assert words in told["sentence"] and "no rank made progress for 100 s" in told["sentence"]
    assert killed == [(ME, signal.SIGUSR1)] * 2 + [(ME, signal.SIGKILL)] * 2, "those of this machine, asked first"


def test_short_deadlines_wait_three_pulses(clock: Clock, killed: list[Any], tmp_path: Path) -> None:
    ranks = [rank_at(clock, 29.0, 40, progress=2), rank_at(clock, 1.0, 40, progress=1)]
    watchdog.end_job(tmp_path, ranks, 40.0, 10.0)
    assert json.loads((tmp_path / ENDED).read_text())["rank"] == 1


class Watched:
    """`main` in this process: each wait for the job's end is an item of `acts`, a function that moves the clock and
    writes pulses; after the last one the job has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock, output: Path, ranks: int) -> None:
        self.folder, self.clock, self.ended = output / "heartbeats", clock, list[float]()
        self.folder.mkdir()
        monkeypatch.setattr(sys, "argv", ["watchdog.py", str(output), "a", str(ranks), "20", "2"])
        monkeypatch.setattr(watchdog, "end_job", lambda *_: self.ended.append(clock.now))
        self.patch = monkeypatch

    def run(self, *acts: Any) -> list[float]:
        left = list(acts)

        def wait(*arguments: Any) -> tuple[list[int], list[int], list[int]]:
            assert arguments == ([0], [], [], 2.0)
            if not left:
                return [0], [], []
            left.pop(0)()
            return [], [], []

        self.patch.setattr(watchdog, "select", SimpleNamespace(select=wait))
        self.patch.setattr(watchdog.os, "read", lambda *_: b"")
        watchdog.main()
        return self.ended

    def step(self, *progress: int, seconds: float = 2.0) -> Any:
        def act() -> None:
            self.clock.now += seconds
            for number, done in enumerate(progress):
                pulse(self.folder / f"rank-{number}", int(self.clock.now), done)

        return act


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, clock: Clock, tmp_path: Path) -> Watched:
    return Watched(monkeypatch, clock, tmp_path, 2)


def test_a_job_ends_when_no_rank_gets_on(watched: Watched) -> None:
    assert watched.run(*[watched.step(1, 1)] * 12) == [1024.0], "more than twenty seconds after the first pulse"
    assert select.select([], [], [], 0) == ([], [], [])


def test_one_rank_that_gets_on_is_enough(watched: Watched) -> None:
    assert watched.run(*(watched.step(1, count) for count in range(30))) == []


def test_a_rank_that_has_not_begun_is_waited_for(watched: Watched) -> None:
    assert watched.run(*[watched.step(1)] * 30) == []


@pytest.mark.parametrize(("seconds", "ended"), [(7.0, [1023.0]), (7.1, [])])
def test_a_machine_that_slept_blames_no_rank(watched: Watched, seconds: float, ended: list[float]) -> None:
    """A wait of two seconds that took more than seven."""
    acts = [watched.step(1, 1)] * 8 + [watched.step(1, 1, seconds=seconds)] + [watched.step(1, 1)]
    assert watched.run(*acts) == ended
