"""The process that `heartbeat` starts beside rank 0: it reads the pulses of all ranks and ends the job when none of
them makes progress.

A script that needs only the standard library, so that it starts in milliseconds and takes a few megabytes; one per
job."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

DUMP_SECONDS = 0.5
"""How long the ranks have to print their stack traces."""


@dataclass
class Rank:
    """What was last read of a rank, and when its values last changed by this process's clock."""

    pid: int = 0
    start: str = ""
    host: str = ""
    pulses: int = -1
    progress: int = -1
    expected: bool = False
    alive_at: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)

    def read(self, path: Path, attempt: str) -> None:
        """Read the rank's file, if it belongs to this attempt."""
        now = time.monotonic()
        try:
            file_attempt, pid, start, host, pulses, progress, expected = path.read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            file_attempt = ""
        if file_attempt != attempt:
            self.expected = False  # it has not started, or its loop is over
            return
        if int(pid) != self.pid or not self.expected:
            self.pid, self.start, self.host = int(pid), start, host
            self.alive_at = self.progress_at = now
        if int(pulses) != self.pulses:
            self.pulses, self.alive_at = int(pulses), now
        if int(progress) != self.progress:
            self.progress, self.progress_at = int(progress), now
        self.expected = expected == "1"

    @property
    def is_local(self) -> bool:
        """Whether it is a process of this machine, and still the same one."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
            return self.host == os.uname().nodename and stat.rpartition(")")[2].split()[19] == self.start
        return False


def main() -> None:
    """Check the ranks every period until the job ends or hangs."""
    output, attempt, ranks, deadline, period = (
        Path(sys.argv[1]),
        sys.argv[2],
        int(sys.argv[3]),
        float(sys.argv[4]),
        float(sys.argv[5]),
    )
    states = [Rank() for _ in range(ranks)]
    last = time.monotonic()
    while True:
        if select.select([0], [], [], period)[0] and not os.read(0, 1):
            return
        now = time.monotonic()
        if now - last > 3 * period + 1:  # this process slept too, so the whole job may have: no rank is to blame
            states = [Rank() for _ in range(ranks)]
        last = now
        for number, rank in enumerate(states):
            rank.read(output / "heartbeats" / f"rank-{number}", attempt)
        if all(rank.expected and now - rank.progress_at > deadline for rank in states):
            end_job(output, states, deadline, period)
            return


def end_job(output: Path, ranks: list[Rank], deadline: float, period: float) -> None:
    """Report which rank hangs and the evidence for it, then kill the ranks of this machine; the others end with
    them."""
    silent = [
        number for number, rank in enumerate(ranks) if time.monotonic() - rank.alive_at > max(deadline / 2, 3 * period)
    ]
    behind = min(range(len(ranks)), key=lambda number: ranks[number].progress)
    culprit = silent[0] if silent else behind
    state = "is stopped or holds Python's lock" if silent else "is alive but makes no progress"
    where = f"process {ranks[culprit].pid} on {ranks[culprit].host}"
    for rank in ranks:
        if rank.is_local:
            os.kill(rank.pid, signal.SIGUSR1)
    time.sleep(DUMP_SECONDS)
    sys.path[:0] = [str(Path(__file__).parents[2]), *site_packages()]
    from jobs.runtime.exit import report_exit

    report_exit(
        output,
        "hang",
        f"no rank made progress for {deadline:g} s; rank {culprit} ({where}) {state}; run the same command again",
        culprit,
    )
    for rank in ranks:
        if rank.is_local:
            os.kill(rank.pid, signal.SIGKILL)


def site_packages() -> list[str]:
    """This interpreter's package folders, which it was started without."""
    import site

    site.main()
    return site.getsitepackages()


if __name__ == "__main__":
    main()
