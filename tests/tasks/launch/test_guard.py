"""A guarded command is the command itself, unless the one who started it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tasks.launch import guard
from tasks.launch.guard import guarded


def test_a_command_is_executed_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(guard, "die_with_parent", done.append)
    monkeypatch.setattr(os, "execvp", lambda name, command: done.append((name, command)))
    command = guarded(["program", "--tree", "x"])
    assert command[:3] == [sys.executable, "-m", "tasks.launch.guard"]
    monkeypatch.setattr(os, "getppid", lambda: int(command[3]))
    monkeypatch.setattr(sys, "argv", command[2:])
    guard.main()
    assert done == [signal.SIGKILL, ("program", ["program", "--tree", "x"])]


def test_nothing_is_started_for_one_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "die_with_parent", lambda signal: None)
    monkeypatch.setattr(os, "execvp", lambda name, command: pytest.fail("it was started"))
    monkeypatch.setattr(sys, "argv", ["guard", str(os.getppid() + 1), "program"])
    with pytest.raises(SystemExit) as ended:
        guard.main()
    assert ended.value.code == 1


def test_what_a_tree_leaves_behind_is_killed() -> None:
    leaves = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); raise SystemExit(5)"
    done = subprocess.run(guarded([sys.executable, "-S", "-c", leaves], tree=True), stdout=subprocess.PIPE, check=False)
    assert done.returncode == 5
    deadline, pid = time.monotonic() + 5, int(done.stdout)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_tree_ends_with_the_one_who_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that one was gone before the command ran."""
    for name in ("adopt_orphans", "die_with_parent"):
        monkeypatch.setattr(guard, name, lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    children: list[psutil.Process] = []
    popen = subprocess.Popen

    def started(command: list[str], preexec_fn: object) -> subprocess.Popen[bytes]:
        process = popen(command)
        children.append(psutil.Process(process.pid))
        return process

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: children if recursive else [])
    assert guard._look_after(["sleep", "60"], os.getppid() + 1) == -signal.SIGKILL
    assert guard._look_after(["true"], os.getppid()) == 0
