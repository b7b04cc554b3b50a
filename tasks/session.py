"""What the tasks of one flow run share: store, launcher, progress board and tracker. A process runs one flow at a time."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from tasks.launch import Launcher
from tasks.progress import Board
from tasks.store import Store
from tasks.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class Session:
    """Opened by the flow, read by its tasks; Prefect copies the context into the threads its tasks run on."""

    name: str
    store: Store
    launcher: Launcher
    board: Board
    tracker: Tracker


current: ContextVar[Session] = ContextVar("imbik_session")
