"""Events of a flow run for MLflow, on disk until they are sent: an append-only file, and how much of it was sent.

Independent of MLflow. Events are JSON objects with an `event` and the time `at` (milliseconds since 1970)."""

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
from tasks.store.locks import opened

FOLDER = "tracking"
"""Folder in the store with `<flow>.jsonl` (events), `<flow>.sent.json` (SentState) and `<flow>.lock` (held by the
sender)."""

Event = dict[str, Any]


@dataclass
class SentState:
    """How much of a spool was sent.

    `offset` is in bytes; `steps`: last step sent per metric, by label; `made`: artifact folders by label; `live`: work
    folders of running stages; `told`: parts of a report that were sent; `refused`: what MLflow did not take, and
    why; `notes`: sentences for the end of the run; `doubt`: time of the last unanswered request
    for a run (seconds since 1970), which may still create a duplicate."""

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
    notes: list[str] = field(default_factory=list)
    doubt: float = 0.0
    ended: bool = False
    done: bool = False


class Spool:
    """The events of one flow run. One process writes and sends; when it is gone, others send the rest."""

    def __init__(self, store: Path, flow: str) -> None:
        self.flow, self.folder = flow, store / FOLDER
        self.path, self.state = self.folder / f"{flow}.jsonl", self.folder / f"{flow}.sent.json"
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def append(self, event: str, **fields: Any) -> None:
        """Append an event. Raises OSError, for instance on a full disk."""
        line = json.dumps({"event": event, "at": int(time.time() * 1000)} | fields) + "\n"
        with self._lock:
            if self._descriptor is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o666)
                size = os.fstat(self._descriptor).st_size
                if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                    line = "\n" + line  # a killed writer left an incomplete line
            os.write(self._descriptor, line.encode())

    def read(self, offset: int, most: int) -> Iterator[tuple[Event, int]]:
        """Up to `most` complete events from a byte offset, each with the offset after it; invalid lines are skipped."""
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
        """The saved SentState, whichever process saved it."""
        try:
            return SentState(**json.loads(self.state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return SentState()  # start over: requests to MLflow are idempotent

    def save(self, sent: SentState) -> None:
        """Save the SentState; delete the events when all were sent and none was refused."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.state, json.dumps(asdict(sent)))
        if sent.done and not sent.refused:
            self.path.unlink(missing_ok=True)

    def start_over(self) -> None:
        """Have all events sent again: requests to MLflow are idempotent, and runs that it no longer has are new."""
        sent = self.sent()
        self.save(SentState(uri=sent.uri, doubt=sent.doubt))

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Try to hold the lock for sending; yields False if another process has it. The kernel releases it with the
        process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with opened(self.folder / f"{self.flow}.lock") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def touch(self) -> None:
        """Update the file's time, which tells later senders when the flow was last alive."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    @property
    def alive(self) -> float:
        """When the flow was last alive, in seconds since 1970."""
        return self.path.stat().st_mtime if self.path.exists() else 0.0

    @property
    def unsent(self) -> int:
        """Bytes of unsent events."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return max(size - self.sent().offset, 0)


def waiting(store: Path) -> list[Spool]:
    """All spools of a store with unsent events, oldest first."""
    files = [(path.stat().st_mtime, path.stem) for path in (store / FOLDER).glob("*.jsonl")]
    return [Spool(store, flow) for _, flow in sorted(files)]
