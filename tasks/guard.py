"""Runs a command that dies with the process that started it, however that one dies: `python -m tasks.guard COMMAND ...`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the parent's death as SIGKILL, then become the command; the request survives exec."""
    parent = int(sys.argv[1])
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(1)  # it died before the request was made
    os.execvp(sys.argv[2], sys.argv[2:])


def guarded(command: list[str]) -> list[str]:
    """`command` behind this guard. The thread that starts it must live as long as the command may: the kernel watches the thread."""
    return [sys.executable, "-m", "tasks.guard", str(os.getpid()), *command]


if __name__ == "__main__":
    main()
