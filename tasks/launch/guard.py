"""Runs a command that dies with the process that started it, however that one dies:
`python -m tasks.launch.guard COMMAND ...`.

With --tree everything the command has started dies too, which takes a process that stays and looks after it.
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
    """Ask the kernel for the parent's death as SIGKILL, then become the command; the request survives exec."""
    tree = sys.argv[1] == TREE
    parent, *command = sys.argv[2:] if tree else sys.argv[1:]
    die_with_parent(signal.SIGHUP if tree else signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)  # it died before the request was made
    if tree:
        sys.exit(_look_after(command, int(parent)))
    os.execvp(command[0], command)


def _look_after(command: list[str], parent: int) -> int:
    """Run the command; what it leaves, or all of it when the parent dies, is killed. Returns its exit code."""
    import psutil

    def end(*_: object) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    adopt_orphans()  # whose parent ends becomes ours
    signal.signal(signal.SIGHUP, end)
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: None)  # whoever asks us to end asks the command too
    running = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(signal.SIGKILL))
    if os.getppid() != parent:
        end()
    code = running.wait()
    end()
    return code


def guarded(command: list[str], *, tree: bool = False) -> list[str]:
    """`command` behind this guard, with `tree` all that it starts. The thread that starts it must live as long as the
    command may: the kernel watches the thread."""
    return [sys.executable, "-m", "tasks.launch.guard", *([TREE] if tree else []), str(os.getpid()), *command]


if __name__ == "__main__":
    main()
