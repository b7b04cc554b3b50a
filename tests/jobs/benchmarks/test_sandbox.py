"""Programs that pass, and those that stay, take too much or would pass without passing; a sandbox with a hole."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from jobs.benchmarks import sandbox as module
from jobs.benchmarks.sandbox import Sandbox


@pytest.mark.parametrize(
    "program",
    [
        "def f(a): return a + 1\nassert f(1) == 2",
        "import re, math, heapq, collections, itertools, typing, datetime, hashlib, random, bisect, copy",
        "print('\u00e9' * 100, flush=True)\nimport sys; sys.stderr.write('x')",
        "import threading, time\nts = [threading.Thread(target=time.sleep, args=(.05,)) for _ in range(20)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]",
        "open('scratch.txt', 'w').write('x'); assert open('/tmp/scratch.txt').read() == 'x'",
        "import sys, io\nsys.stdout = io.StringIO(); print('lost')",
        "def f(): return 1\r\nassert f() == 1\r\n",
        "if __name__ == '__main__': x = 1\nassert x",
        "x = '" + "a" * 300_000 + "'",
    ],
)
def test_a_good_program_passes(sandbox: Sandbox, program: str) -> None:
    outcome = sandbox.run(program, 5)
    assert outcome.passed, outcome.reason
    assert 0 < outcome.seconds < 5


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(a): return a\nassert f(1) == 2", "AssertionError"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import os; os._exit(0)\nassert False", "ended before its tests did"),
        ("import sys; sys.exit(0)", "ended before its tests did"),
        ("raise SystemExit", "ended before its tests did"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import atexit, os; atexit.register(os._exit, 4)", "exit status 4"),
        ("input()", "EOFError: EOF when reading a line"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy'"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("while True: pass", "more than 1 processor seconds"),
        ("bytearray(3 << 30)", "MemoryError"),
        ("import sys\nfor i in range(400): sys.stdout.write('A' * (1 << 20))", "more than 16777216 bytes of output"),
    ],
)
def test_a_bad_program_does_not(sandbox: Sandbox, program: str, reason: str) -> None:
    outcome = sandbox.run(program, 1)
    assert not outcome.passed
    assert reason in outcome.reason


def test_killing_everything_kills_nothing_of_ours(sandbox: Sandbox) -> None:
    sandbox.run("import os, signal\nos.kill(1, signal.SIGKILL)\nos.kill(-1, signal.SIGKILL)", 2)
    assert sandbox.run("assert True", 2).passed


def test_a_sleeping_program_is_ended(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTING", 0.5)
    before = psutil.Process().children(recursive=True)
    outcome = sandbox.run("import time; time.sleep(100)", 1)
    assert outcome.reason == "still running after 4.5 seconds"
    time.sleep(1)
    after = [process for process in psutil.Process().children(recursive=True) if process.status() != "zombie"]
    assert set(after) <= set(before)


def test_outcomes_come_in_order(sandbox: Sandbox) -> None:
    programs = [(f"assert {number} % 3", 2.0) for number in range(6)]
    assert [outcome.passed for outcome in sandbox.run_all(programs, workers=3)] == [False, True, True] * 2


@pytest.mark.parametrize(
    "hole",
    [
        ("build_root(root, visible, scratch)", "read a file"),
        ("    seccomp()\n", "open a socket"),
        ("(resource.RLIMIT_AS, memory),", "use more memory than it may"),
    ],
)
def test_a_sandbox_with_a_hole_refuses(
    sandbox: Sandbox, hole: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holed = tmp_path / "contained.py"
    text = module.CONTAINED.read_text()
    assert hole[0] in text
    holed.write_text(
        text.replace(hole[0], "    pass\n" if hole[0].endswith("\n") else "" if hole[0][0] == "(" else "pass")
    )
    monkeypatch.setattr(module, "CONTAINED", holed)
    with pytest.raises(ValueError, match=rf"cannot contain programs that a model wrote \(a program could {hole[1]}\)"):
        Sandbox().__enter__()


def test_a_machine_that_cannot_contain_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = tmp_path / "contained.py"
    refusing.write_text(
        "import os, sys\nprint('sandbox: unshare: Operation not permitted', flush=True)\nos._exit(126)\n"
    )
    monkeypatch.setattr(module, "CONTAINED", refusing)
    with pytest.raises(ValueError, match=r"a program that must pass did not: sandbox: unshare: Operation not perm"):
        Sandbox().__enter__()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('y' * 300)\nprint('x' * 300)\nprint(' ')", "x" * 200),
        ("print('ab')", "ab"),
        ("print('a' + 'b' * 1800)", "a" + "b" * 199),
        ("pass", "exit status 3"),
    ],
)
def test_the_reason_is_the_last_line_of_output(sandbox: Sandbox, program: str, reason: str) -> None:
    code = f"import sys\n{program}\nsys.stdout.flush()\nimport os; os._exit(3)"
    assert sandbox.run(code, 1).reason == reason


def test_a_slow_program_that_ends_is_not_too_slow(sandbox: Sandbox) -> None:
    code = "import os, time\nwhile time.process_time() < 0.85: pass\nos._exit(3)"
    outcome = sandbox.run(code, 1)
    assert outcome.reason == "exit status 3" and 0.8 < outcome.seconds < 1.2
