"""What becomes of processes whose parent ends."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from conf.process import die_with_parent

DIES = """
import os, signal, sys, time
from conf.process import die_with_parent
reads, writes = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        die_with_parent(signal.SIGTERM)
        os.write(writes, b"x")
        time.sleep(60)
        print("alive", flush=True)
        os._exit(0)
    os.read(reads, 1)
    os._exit(0)
os.close(writes)
os.wait()
os.read(reads, 1)  # ends when the grandchild has closed the pipe
"""
ADOPTS = """
import os, time
from conf.process import adopt_orphans
adopt_orphans()
reads, writes = os.pipe()
if (child := os.fork()) == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os.write(writes, str(os.getppid()).encode())
        os._exit(0)
    time.sleep(0.05)
    os._exit(0)
os.waitpid(child, 0)
print(int(os.read(reads, 20)) == os.getpid())
"""


def ran(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def test_a_process_ends_with_its_parent() -> None:
    assert ran(DIES) == ""


def test_orphans_are_adopted() -> None:
    assert ran(ADOPTS) == "True"


def test_a_signal_that_there_is_not_is_told() -> None:
    with pytest.raises(OSError, match=r"prctl\(1\) failed: Invalid argument") as caught:
        die_with_parent(9999)
    assert caught.value.errno == errno.EINVAL
