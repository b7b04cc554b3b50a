"""Runs a command that ends with the process that started it, however that process ends: `python -m tasks.launch.guard
COMMAND ...`.

With --tree, everything that the command started ends too; this needs a supervising process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from conf.process import adopt_orphans, die_with_parent

TREE = "--tree"


def main() -> None:
    """Request SIGKILL on the parent's death from the kernel, then exec the command."""
    tree = sys.argv[1] == TREE
    parent, *command = sys.argv[2:] if tree else sys.argv[1:]
    die_with_parent(signal.SIGHUP if tree else signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent ended before the request
    if tree:
        sys.exit(_look_after(command, int(parent)))
    os.execvp(command[0], command)


def _look_after(command: list[str], parent: int) -> int:
    """Run the command and return its exit code; kill its remaining descendants at its end, or all when the parent
    dies."""
    import psutil

    def end(*_: object) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    adopt_orphans()  # orphaned descendants become children of this process
    signal.signal(signal.SIGHUP, end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the command gets the same signal from the sender
    running = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    if os.getppid() != parent:
        end()
    code = running.wait()
    end()
    return code


def guarded(command: list[str], *, tree: bool = False) -> list[str]:
    """`command` under this guard; with `tree`, including everything that it starts. The thread that starts it must live
    as long as the command, because the kernel watches the thread."""
    return [sys.executable, "-m", "tasks.launch.guard", *([TREE] if tree else []), str(os.getpid()), *command]


if __name__ == "__main__":
    main()
