"""The processes that parse files, played: what they are given, how long they have, and what is said of their end."""

from __future__ import annotations

import os
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from conf.extraction import Extract
from conf.ocr import Ocr
from conf.refetch import Refetch
from jobs.corpus.extract import workers
from jobs.corpus.extract.workers import Task, _attend, _hand_out, _Job, _Worker, answered


class Parser:
    """In the place of a worker's process: its end of the connection is spoken on by the test."""

    def __init__(self, command: list[str], pass_fds: list[int], **_: Any) -> None:
        self.command, self.connection, self.killed = command, Connection(os.dup(pass_fds[0])), False
        self.pid, self.returncode = 77, 0

    def say(self, answer: dict[str, Any]) -> None:
        self.connection.send_bytes(orjson.dumps(answer))

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that stands still, and processes that are played."""
    now = SimpleNamespace(at=1000.0)
    monkeypatch.setattr(workers.time, "monotonic", lambda: now.at)
    monkeypatch.setattr(workers, "subprocess", SimpleNamespace(Popen=Parser, DEVNULL=None))
    return now


SETTINGS = Extract(seconds=7, memory_mb=96, max_pages=2, ocr=Ocr(seconds=30))
HTML = Task(file="a.warc", line=3, kind="html", content=b"<p>", charset="utf-8", url="https://a")


def begun(settings: Extract = SETTINGS, task: Task = HTML) -> tuple[_Worker, Any, _Job]:
    """A worker that is ready and at work."""
    worker, job = _Worker(settings, None), _Job(task)
    parser: Any = worker.process
    parser.say({})
    assert worker.hear() and worker.ready
    worker.give(job)
    return worker, parser, job


def test_a_task_is_sent_and_its_content_let_go(clock: Any) -> None:
    _, parser, job = begun()
    told = {"kind": "html", "charset": "utf-8", "truncated": None, "url": "https://a"}
    assert orjson.loads(parser.connection.recv_bytes()) == told | {"path": False}
    assert parser.connection.recv_bytes() == b"<p>"
    assert job.given and job.task.content == b"" and job.task.line == 3
    _, parser, _ = begun(task=Task(file="a", line=1, kind="pdf", path=Path("/x/a")))
    assert orjson.loads(parser.connection.recv_bytes())["path"] is True
    assert parser.connection.recv_bytes() == b"/x/a"
    assert parser.command[3:5] == [parser.command[3], SETTINGS.model_dump_json()] and len(parser.command) == 5
    assert _Worker(SETTINGS, Path("/kept")).process.command[5:] == ["/kept"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("last", [False, True])
def test_a_worker_lives_until_its_last_answer(last: bool, clock: Any) -> None:
    worker, parser, job = begun()
    parser.say({"text": "so", "last": last})
    assert worker.hear() is not last
    assert job.answer == {"text": "so"} and worker.job is None and parser.killed == last


def test_what_recognizes_may_be_missing(clock: Any) -> None:
    worker, parser, _ = begun()
    parser.say({"unavailable": "install tesseract"})
    with pytest.raises(ValueError, match="install tesseract"):
        worker.hear()


@pytest.mark.parametrize(
    ("kilobytes", "inherited", "status", "reason"),
    [
        (49_153, 0, 9, "out of memory: above data.extract.memory_mb 96"),
        (49_152, 0, 9, "damaged: its parser ended with SIGKILL"),
        (60_000, 60_000, 11, "damaged: its parser ended with SIGSEGV"),
        (60_001, 60_000, 11, "out of memory: above data.extract.memory_mb 96"),
        (1, 0, 3 << 8, "damaged: its parser ended with code 3"),
    ],
)
def test_a_worker_that_died_says_of_what(
    kilobytes: int, inherited: int, status: int, reason: str, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of memory, where it had more than half its bound and more than the process that started it."""
    usage = SimpleNamespace(ru_maxrss=kilobytes)
    monkeypatch.setattr(workers.os, "wait4", lambda pid, options: (pid, status, usage))
    worker, parser, job = begun()
    worker._inherited = inherited
    parser.connection.close()
    assert not worker.hear() and job.answer == {"reason": reason}
    idle = _Worker(SETTINGS, None)
    idle.process.connection.close()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="before it had any file"):
        idle.hear()


def test_a_worker_has_its_seconds(clock: Any) -> None:
    starting = _Worker(SETTINGS, None)
    clock.at += 119.9
    assert not starting.late()
    clock.at += 0.1
    with pytest.raises(RuntimeError, match="was not ready within 120 s"):
        starting.late()
    worker, parser, job = begun()
    clock.at += 6.9
    assert not worker.late()
    clock.at += 0.1
    assert worker.late() and parser.killed
    assert job.answer == {"reason": "timed out: above data.extract.seconds 7"}
    idle, parser, _ = begun()
    parser.say({"text": "", "last": False})
    idle.hear()
    clock.at += 1000
    assert not idle.late(), "it waits for a task"


def test_a_page_is_recognized_in_a_time_of_its_own(clock: Any) -> None:
    """5 s more than its bound; then the file has what it had left."""
    worker, parser, job = begun()
    clock.at += 3
    for _ in range(2):
        parser.say({"aside": "ocr"})
        assert worker.hear()
        clock.at += 34
        assert not worker.late()
        parser.say({"aside": ""})
        assert worker.hear()
        assert worker.until == clock.at + 4
    parser.say({"aside": "ocr"})
    worker.hear()
    clock.at += 4 + 30 + 5
    assert worker.late() and job.answer == {"reason": "timed out: above data.extract.ocr.seconds"}


def test_no_file_has_more_asides_than_pages(clock: Any) -> None:
    """A parser that its input has taken over could ask for time without end."""
    worker, parser, _ = begun()
    ends = []
    for _ in range(5):
        parser.say({"aside": "ocr"})
        worker.hear()
        ends.append(worker.until - clock.at)
    assert ends == [7 + 35, 7 + 70, 7 + 105, 7 + 105, 7 + 105], "2 pages and one fetch"


def test_a_file_that_cannot_be_fetched_in_time_is_counted(clock: Any) -> None:
    settings = Extract(seconds=7, refetch=Refetch(hosts=("archive.example",)))
    worker, parser, job = begun(settings)
    parser.say({"aside": "refetch"})
    worker.hear()
    clock.at = worker.until
    assert worker.late()
    assert job.answer == {
        "reason": "timed out: above data.extract.refetch.seconds",
        "refetch": {"reason": "timed out", "seconds": 0.0},
    }


def test_workers_are_started_while_there_are_tasks(clock: Any) -> None:
    jobs = deque(_Job(HTML) for _ in range(5))
    jobs[0].answer = {"reason": "known before"}
    started: list[_Worker] = []
    hand = lambda most: _hand_out(jobs, started, lambda: _Worker(SETTINGS, None), most)  # noqa: E731
    hand(3)
    assert len(started) == 3
    hand(3)
    assert len(started) == 3 and not any(job.given for job in jobs), "none is ready"
    for worker in started[:2]:
        worker.process.say({})  # type: ignore[attr-defined]
        worker.hear()
    hand(3)
    assert [job.given for job in jobs] == [False, True, True, False, False]
    hand(9)
    assert len(started) == 4, "two wait, and one worker starts already"
    hand(9)
    assert len(started) == 4


def test_the_soonest_end_is_waited_for(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(connections: list[Any], seconds: float) -> list[Any]:
        waits.append(seconds)
        return [connections[0]]

    monkeypatch.setattr(workers, "wait", wait)
    (first, parser, _), (second, _, slow) = begun(), begun()
    second.until = clock.at - 1
    parser.say({"text": "so", "last": False})
    going = [first, second]
    _attend(going)
    assert going == [first] and slow.answer, "one answered, the other's time was over"
    parser.say({"aside": ""})
    first.job = _Job(HTML)
    first.until = clock.at + 3
    _attend(going)
    assert waits == [0.0, 3.0]


def test_only_so_many_tasks_are_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 for each worker, and no more content than may be held."""
    held: list[int] = []

    def answer(jobs: deque[_Job], *_: Any) -> None:
        held.append(len(jobs))
        for job in jobs:
            job.answer = {"text": job.task.file}

    monkeypatch.setattr(workers, "_hand_out", answer)
    monkeypatch.setattr(workers, "HELD", 10)
    small = [Task(file=str(number), line=1, kind="html") for number in range(13)]
    assert [given["text"] for _, given in answered(small, SETTINGS, 3)] == [str(number) for number in range(13)]
    assert held == [12, 1]
    held.clear()
    large = [Task(file=str(number), line=1, kind="html", content=b"12345") for number in range(5)]
    assert len(list(answered(large, SETTINGS, 3))) == 5 and held == [2, 2, 1]
