"""The process that forks jobs: what it answers, what a job finds, and that none outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.runtime import forkserver

SECONDS = 20.0


class Server:
    """The server as a process of its own; jobs run the stage `fake`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pending = folder, b""
        inner, self.requests = os.pipe()
        self.answers, outer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with contextlib.suppress(BaseException):
                os.dup2(os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT), 2)
                os.dup2(inner, 0)
                os.dup2(outer, 1)
                for end in (inner, outer, self.requests, self.answers):
                    os.close(end)
                sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # pytest's write elsewhere
                forkserver.main()
                os._exit(0)
            os._exit(5)
        os.close(inner)
        os.close(outer)

    def request(self, name: str, act: str) -> bytes:
        environment = {"OMP_NUM_THREADS": "2", "ACT": act}
        log = str(self.folder / f"{name}.log")
        told = {"id": name, "stage": "fake", "spec": f"{name}.json", "log": log, "environment": environment}
        return json.dumps(told).encode() + b"\n"

    def answer(self) -> dict[str, Any]:
        while b"\n" not in self.pending:
            assert select.select([self.answers], [], [], SECONDS)[0], "no answer"
            read = os.read(self.answers, 4096)
            assert read, "the server has ended"
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> int:
        """Close its input; its exit code."""
        os.close(self.requests)
        self.requests = -1
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fake(spec: Path, alone: bool) -> int:
    """A job that tells what it found."""
    if os.environ["ACT"] == "wait":
        time.sleep(60)
    if os.environ["ACT"] == "fail":
        raise RuntimeError("broken")
    found = [spec.name, alone, os.getsid(0) == os.getpid(), torch.get_num_threads(), os.read(0, 1).decode()]
    print(json.dumps(found))
    print("a warning", file=sys.stderr)
    return 3


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "noisy_library.py").write_text("print('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(forkserver, "HEAVY", ("no_such_library", "noisy_library"))
    monkeypatch.setattr(forkserver, "execute", lambda run, spec, alone=False: run(spec, alone))
    monkeypatch.setitem(sys.modules, "jobs.fake", SimpleNamespace(run=fake))  # type: ignore[arg-type]
    made = Server(tmp_path)
    assert made.answer() == {"ready": True}, "what a library prints is no answer"
    yield made
    if made.requests >= 0:
        os.kill(made.pid, signal.SIGKILL)
        os.waitpid(made.pid, 0)


def test_jobs_are_answered_by_id(server: Server) -> None:
    """Two requests at once, of which the second arrives in pieces; jobs have logs, threads and sessions of their
    own."""
    second = server.request("two", "fail")
    os.write(server.requests, server.request("one", "tell") + second[:9])
    first = server.answer()
    assert first["id"] == "one" and first["pid"] > 1
    assert server.answer() == {"id": "one", "code": 3}
    os.write(server.requests, second[9:])
    assert server.answer()["id"] == "two"
    assert server.answer() == {"id": "two", "code": 1}
    told, warning = (server.folder / "one.log").read_text().splitlines()
    assert json.loads(told) == ["one.json", True, True, 2, ""] and warning == "a warning"
    assert "RuntimeError: broken" in (server.folder / "two.log").read_text()
    assert (server.folder / "server.log").read_text() == "imported\n"
    assert server.end() == 0


def test_no_job_outlives_the_server(server: Server) -> None:
    os.write(server.requests, server.request("one", "wait"))
    pid = server.answer()["pid"]
    os.kill(pid, 0)
    assert server.end() == 0
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()
