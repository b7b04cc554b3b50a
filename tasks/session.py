"""What the tasks of one flow run share: store, launcher, progress board and tracker. A process runs one flow at a
time."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

from conf.cluster import LOCAL, Cluster
from tasks.launch.protocol import Launcher
from tasks.monitor.board import Board
from tasks.store.store import Artifact, Store
from tasks.tracking.tracker import Tracker


@dataclass(frozen=True, kw_only=True)
class Session:
    """Opened by the flow, read by its tasks; Prefect copies the context into the threads its tasks run on."""

    name: str
    store: Store
    launcher: Launcher
    board: Board
    tracker: Tracker
    stages: dict[str, tuple[Artifact, bool]] = field(default_factory=dict)
    """By label, what every stage gave so far, and whether it was found in the store."""
    linking: threading.Lock = field(default_factory=threading.Lock)
    """Held from when the run is linked to its page in MLflow."""
    cluster: Cluster = LOCAL


current: ContextVar[Session] = ContextVar("imbik_session")
