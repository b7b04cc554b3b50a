"""Objects that the tasks of one flow run share: store, launcher, board and tracker. A process runs one flow at a
time."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conf.cluster import LOCAL, Cluster
from tasks.launch.protocol import Launcher
from tasks.monitor.board import Board
from tasks.store.store import Artifact, Store
from tasks.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True)
class Session:
    """Opened by the flow and read by its tasks; Prefect copies the context to the threads of tasks."""

    name: str
    store: Store
    launcher: Launcher
    board: Board
    tracker: Tracker
    stages: dict[str, tuple[Artifact, bool]] = field(default_factory=dict)
    """Artifact of each finished stage by label, and whether it was cached."""
    linking: threading.Lock = field(default_factory=threading.Lock)
    """Acquired once, when the run is linked to its page in MLflow."""
    cluster: Cluster = LOCAL
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


current: ContextVar[Session] = ContextVar("imbik_session")
