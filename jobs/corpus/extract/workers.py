"""The processes that parse files: given tasks in order, their answers come back in the same order, whatever their
number; one that takes too long or dies is replaced, and its task answered with the reason."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import orjson

from conf.extraction import Extract

MODULE = "jobs.corpus.extract.worker"
AHEAD = 4
"""Tasks in hand per worker: those behind a slow one go on meanwhile."""
HELD = 64 << 20
"""Bytes of archived records that wait for a worker."""
SPARE = 5.0
"""Seconds above its own bound in which a page that is recognized must end."""
STARTS_IN = 120.0
"""Seconds in which a worker must be ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A file by its `path`, or a record of an archive by its `content`: at `file`:`line`, of the `kind` (html, pdf or
    text) that its name or the server says. `truncated` says how its end is known to be missing; with a `reason` there
    is nothing to parse. `url`: where an archive found it."""

    file: str
    line: int
    kind: str
    path: Path | None = None
    content: bytes = b""
    charset: str | None = None
    truncated: str | None = None
    reason: str = ""
    about: str = ""
    url: str = ""


@dataclass(slots=True)
class _Job:
    """A task on its way; `answer` is set at the end."""

    task: Task
    answer: dict[str, Any] | None = None
    given: bool = False


class _Worker:
    """One process."""

    def __init__(self, settings: Extract, kept: Path | None) -> None:
        self._settings = settings
        self.connection, other = Pipe()
        # Linux counts the memory of the process that starts another as the other's.
        self._inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Not forked: a thread of this process may hold a lock at that moment, and its memory would count.
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                MODULE,
                str(other.fileno()),
                settings.model_dump_json(),
                *([str(kept)] if kept else ()),
            ],
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), *sys.path)))},
        )
        other.close()
        self.ready, self.until = False, time.monotonic() + STARTS_IN
        self.job: _Job | None = None
        self._asides, self._left, self._aside = 0, 0.0, ""

    def give(self, job: _Job) -> None:
        """Start on a task."""
        task = job.task
        message = {name: getattr(task, name) for name in ("kind", "charset", "truncated", "url")}
        self.job, self.until, self._asides, self._aside = job, time.monotonic() + self._settings.seconds, 0, ""
        try:
            self.connection.send_bytes(orjson.dumps(message | {"path": task.path is not None}))
            self.connection.send_bytes(task.content if task.path is None else os.fsencode(task.path))
        except OSError:  # it has died, which shows when its answer is read
            pass
        job.given, job.task = True, replace(task, content=b"")

    def hear(self) -> bool:
        """Take its answer; returns whether it lives on. Raises RuntimeError where it could not start, and ValueError
        where what recognizes images is not available."""
        try:
            answer = orjson.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._died()
            return False
        if not answer:  # ready, for its first file or for HTML
            self.ready, self.until = True, time.monotonic() + self._settings.seconds
            return True
        if "aside" in answer:
            self._turn_aside(answer["aside"])
            return True
        if unavailable := answer.get("unavailable"):
            raise ValueError(unavailable)
        assert self.job is not None
        self.job.answer, self.job = answer, None
        if answer.pop("last"):
            self.end()
            return False
        return True

    def _turn_aside(self, what: str) -> None:
        """Recognizing a page or fetching the file begins, in a time of its own, or ends, and the file's goes on. A
        parser that its input has taken over gets no more of it than a file can have pages."""
        now, settings = time.monotonic(), self._settings
        times = {"ocr": settings.ocr and settings.ocr.seconds, "refetch": settings.refetch and settings.refetch.seconds}
        if (seconds := times.get(what)) and self._asides <= settings.max_pages:
            self._asides, self._left, self._aside = self._asides + 1, self.until - now, what
            self.until += seconds + SPARE
        elif not what:
            self.until, self._aside = min(self.until, now + self._left), ""

    def late(self) -> bool:
        """Whether its time is over, which ends it."""
        if (self.ready and self.job is None) or time.monotonic() < self.until:
            return False
        if self.job is None:
            raise RuntimeError(f"a parser of HTML and PDF was not ready within {STARTS_IN:g} s")
        bound = f"{self._aside}.seconds" if self._aside else f"seconds {self._settings.seconds:g}"
        self.job.answer = {"reason": f"timed out: above data.extract.{bound}"}
        if self._aside == "refetch":
            self.job.answer["refetch"] = {"reason": "timed out", "seconds": 0.0}
        self.end()
        return True

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def _died(self) -> None:
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.connection.close()
        if self.job is None:
            raise RuntimeError(f"a parser of HTML and PDF ended with {self.process.returncode} before it had any file")
        code, most = self.process.returncode, self._settings.memory_mb
        if usage.ru_maxrss > max(most * 1024 / 2, self._inherited):  # a failed allocation ends PDFium at once
            self.job.answer = {"reason": f"out of memory: above data.extract.memory_mb {most}"}
        else:
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            self.job.answer = {"reason": f"damaged: its parser ended with {how}"}


def answered(
    tasks: Iterable[Task], settings: Extract, most: int, kept: Path | None = None
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Each task with its answer, in order, from at most so many workers; texts of recognized pages are `kept` in that
    folder."""
    coming: Iterator[Task] | None = iter(tasks)
    jobs, workers = deque[_Job](), list[_Worker]()
    try:
        while coming or jobs:
            while coming and len(jobs) < AHEAD * most and sum(len(job.task.content) for job in jobs) < HELD:
                if task := next(coming, None):
                    jobs.append(_Job(task, {"reason": task.reason} if task.reason else None))
                else:
                    coming = None
            _hand_out(jobs, workers, lambda: _Worker(settings, kept), most)
            if jobs and jobs[0].answer is None:
                _attend(workers)
            while jobs and jobs[0].answer is not None:
                job = jobs.popleft()
                yield job.task, job.answer or {}
    finally:
        for worker in workers:
            worker.end()


def _hand_out(jobs: deque[_Job], workers: list[_Worker], started: Callable[[], _Worker], most: int) -> None:
    """Give tasks to workers that have none; start workers while there are more tasks."""
    waiting = [job for job in jobs if not job.given and job.answer is None]
    idle = [worker for worker in workers if worker.job is None]
    for job, worker in zip(waiting, (worker for worker in idle if worker.ready), strict=False):
        worker.give(job)
    for _ in range(min(len(waiting) - len(idle), most - len(workers))):
        workers.append(started())


def _attend(workers: list[_Worker]) -> None:
    """Wait for the next answer or the end of some worker's time; drop workers that have ended."""
    soonest = min(worker.until for worker in workers if worker.job or not worker.ready)
    heard = wait([worker.connection for worker in workers], max(0.0, soonest - time.monotonic()))
    for worker in list(workers):
        lives = worker.hear() if worker.connection in heard else not worker.late()
        if not lives:
            workers.remove(worker)
