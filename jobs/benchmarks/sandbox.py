"""Runs programs that a model wrote: no network, no files but its own, no other processes, bounded memory and time.

A program has passed if, after its tests, it hands over a number that was drawn for it, and then ends well: leaving
early does not pass. What no sandbox can see is a program that cheats its own tests, such as an `__eq__` that is always
true."""

from __future__ import annotations

import math
import os
import platform
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CONTAINED = Path(__file__).with_name("contained.py")
SCRATCH_BYTES = 16 << 20
OUTPUT_BYTES = 2000
"""The end of a program's output that is looked at."""
PATIENCE = 4.0
"""Real seconds a program may take for each processor second it may: a busy machine must not fail it."""
STARTING = 5.0
KILLED = 128 + 9
NO_REPORT, TOO_SLOW = -1, -2


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Whether a program passed, its processor seconds, and if it did not pass, why."""

    passed: bool
    seconds: float
    reason: str = ""


class Sandbox:
    """Runs programs in fresh interpreters that have the standard library only; a context manager, which tests itself
    first and raises ValueError where this machine cannot contain a program."""

    def __init__(self, *, memory: int = 1 << 30, python: str = sys.executable) -> None:
        self.memory = memory
        self._root = tempfile.TemporaryDirectory(prefix="imbik-sandbox-")
        self._python = str(Path(python).resolve())
        prefix = _prefix(self._python)
        libraries = [f"{prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64"]
        visible = [self._python, *(folder for folder in dict.fromkeys(libraries) if Path(folder).exists())]
        self._fixed = [str(memory), str(SCRATCH_BYTES), self._root.name, f"{prefix}/lib", *visible]

    def __enter__(self) -> Sandbox:
        try:
            _self_test(self)
        except BaseException:
            self._root.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._root.cleanup()

    def run_all(self, programs: Iterable[tuple[str, float]], workers: int) -> Iterator[Outcome]:
        """The outcome of each (program, seconds), in order."""
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda item: self.run(*item), programs)

    def run(self, program: str, seconds: float) -> Outcome:
        """Run one program for at most `seconds` (rounded up) of processor time."""
        limit, number = math.ceil(seconds), secrets.token_hex(16)
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as report, tempfile.TemporaryFile() as output:
            body = f"{program}\n__import__('os').write({told.fileno()}, b'{number}')\n"
            in_time = self._start(body.encode("utf-8", "replace"), limit, told, report, output)
            told.seek(0)
            report.seek(0)
            status, used = map(float, report.read().split() or (NO_REPORT if in_time else TOO_SLOW, limit))
            if status == 0 and told.read() == number.encode():
                return Outcome(passed=True, seconds=used)
            return Outcome(passed=False, seconds=used, reason=_reason(int(status), used, limit, output))

    def _start(self, body: bytes, limit: int, told: IO[bytes], report: IO[bytes], output: IO[bytes]) -> bool:
        """Run it; whether it ended by itself."""
        started = subprocess.Popen(
            [self._python, "-I", "-S", "-B", str(CONTAINED), str(report.fileno()), str(limit), *self._fixed],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={},
            pass_fds=(told.fileno(), report.fileno()),
            start_new_session=True,
        )
        try:
            started.communicate(body, timeout=STARTING + PATIENCE * limit)
            return True
        except subprocess.TimeoutExpired:
            started.kill()  # and with it the program, which asked the kernel to die with it
            started.wait()
            return False


def _prefix(python: str) -> str:
    command = [python, "-I", "-S", "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout.strip()


def _reason(status: int, used: float, limit: int, output: IO[bytes]) -> str:
    if status == TOO_SLOW:
        return f"still running after {STARTING + PATIENCE * limit:g} seconds"
    if status == KILLED and used > 0.8 * limit:  # the kernel's clock and its accounts differ a little
        return f"more than {limit} processor seconds"
    if status == 0:
        return "ended before its tests did"
    size = output.seek(0, os.SEEK_END)
    if size >= SCRATCH_BYTES:
        return f"more than {SCRATCH_BYTES} bytes of output"
    output.seek(max(0, size - OUTPUT_BYTES))
    lines = output.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last[:200] or ("it could not be started" if status == NO_REPORT else f"exit status {status}")


def _self_test(sandbox: Sandbox) -> None:
    """Run one good program and several that must not get through."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise ValueError(_refusal(f"it is {platform.system()} on {platform.machine()}, not Linux on x86_64"))
    good = sandbox.run("assert sorted({3: 'a', 1: 'b'}) == [1, 3]", 2)
    if not good.passed:
        raise ValueError(_refusal(f"a program that must pass did not: {good.reason}"))
    for what, program in _escapes(sandbox.memory):
        if sandbox.run(program, 1).passed:
            raise ValueError(_refusal(f"a program could {what}"))


def _refusal(why: str) -> str:
    return (
        f"this machine cannot contain programs that a model wrote ({why}); leave the benchmarks of code out, or run"
        " this stage where user namespaces are allowed (not in an unprivileged container)"
    )


def _escapes(memory: int) -> Iterator[tuple[str, str]]:
    """(what it does, program) of programs that pass if they are not contained."""
    with tempfile.NamedTemporaryFile("w", prefix="imbik-secret-") as secret:
        secret.write("secret")
        secret.flush()
        yield "read a file", f"assert open({secret.name!r}).read() == 'secret'"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        yield "open a connection", f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
    yield "open a socket", "import socket; socket.socket()"
    yield "start a process", "import os\nif os.fork() == 0: os._exit(0)"
    yield "write a file", f"open({str(CONTAINED)!r} + '.x', 'w')"
    yield "write to a system folder", "open('/usr/lib/imbik-written', 'w')"
    yield "use more memory than it may", f"import mmap; mmap.mmap(-1, {memory})"
    yield "see another process", f"import os; os.kill({os.getpid()}, 0)"
