"""What a flow run has to tell MLflow, kept on disk until it is told: an append-only file of events, and how far it was
sent.

It knows files and locks, nothing of MLflow. Events are JSON objects with an `event` and the time `at` (milliseconds
since 1970)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conf.files import write_whole

FOLDER = "tracking"
"""Under the store: `<flow>.jsonl` (events), `<flow>.sent.json` (how far), `<flow>.lock` (held by whoever tells
them)."""

Event = dict[str, Any]


@dataclass
class SentState:
    """How far a spool was sent.

    `offset` is in bytes; `steps`: the last step sent of each metric by label; `made`: each label's folder; `live`: the
    work folders of stages that run; `told`: parts of a report that were sent; `doubt`: when a run was last asked for
    without an answer (seconds since 1970), for it may still appear a second time."""

    offset: int = 0
    uri: str | None = None
    experiment: str = ""
    parent: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    steps: dict[str, dict[str, int]] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    doubt: float = 0.0
    ended: bool = False
    done: bool = False


class Spool:
    """The events of one flow run. One process writes and sends; others send what it left behind when it is gone."""

    def __init__(self, store: Path, flow: str) -> None:
        self.flow, self.folder = flow, store / FOLDER
        self.path, self.state = self.folder / f"{flow}.jsonl", self.folder / f"{flow}.sent.json"
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def append(self, event: str, **told: Any) -> None:
        """Add an event. Raises OSError where the disk does not take it."""
        line = json.dumps({"event": event, "at": int(time.time() * 1000)} | told) + "\n"
        with self._lock:
            if self._descriptor is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o644)
                size = os.fstat(self._descriptor).st_size
                if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                    line = "\n" + line  # a writer was killed in the middle of its last line
            os.write(self._descriptor, line.encode())

    def read(self, offset: int, most: int) -> Iterator[tuple[Event, int]]:
        """Up to `most` whole events from a byte offset, each with the offset after it; torn lines are left out."""
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                offset += len(line)
                if not line.endswith(b"\n") or most == 0:
                    return
                most -= 1
                with contextlib.suppress(ValueError):
                    yield json.loads(line), offset

    def sent(self) -> SentState:
        """How far it was sent, by whatever process."""
        try:
            return SentState(**json.loads(self.state.read_text()))
        except (OSError, ValueError, TypeError):
            return SentState()  # from the start: MLflow takes nothing twice

    def save(self, sent: SentState) -> None:
        """Remember how far it was sent; the events go when all of them are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.state, json.dumps(asdict(sent)))
        if sent.done:
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the right to send it; False where another process has it. The kernel frees it with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.flow}.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def touch(self) -> None:
        """The flow lives: the file's time says so to whoever sends it afterwards."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    @property
    def alive(self) -> float:
        """When the flow was last known to live, in seconds since 1970."""
        return self.path.stat().st_mtime if self.path.exists() else 0.0

    @property
    def left(self) -> int:
        """Bytes of events that were not sent yet."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return max(size - self.sent().offset, 0)


def waiting(store: Path) -> list[Spool]:
    """Every spool of a store that has something to be sent, oldest first."""
    found = [(path.stat().st_mtime, path.stem) for path in (store / FOLDER).glob("*.jsonl")]
    return [Spool(store, flow) for _, flow in sorted(found)]
