"""Tells MLflow what a flow does while it does it. It may be late, never in the way: a flow only appends the events of
its stages to a file of its store, and jobs their metrics to files of their own.

One background thread sends them, this run's first and then what earlier runs could not send; see `spool` and
`sender`. A server that is slow, gone or failing delays nothing; what it missed is sent by the next run of the store or
by `imbik sync`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conf.secrets import masker
from tasks.store.store import Artifact
from tasks.tracking.sender import Sender
from tasks.tracking.servers import bare, client_of, own_uri
from tasks.tracking.spool import FOLDER, Spool, waiting

PERIOD = 1.0
"""Seconds between looks at the spool: what a job reports shows on MLflow's pages about so much later."""
AGAIN_SECONDS = 10.0
"""A server that failed less long ago is not asked again at the end."""
LONGEST_WAIT = 60.0
"""Seconds between tries at a server that fails."""
FINISH_SECONDS = 20.0
"""How long the end of a flow waits for what is still to be sent, while the server answers."""


class Tracker:
    """MLflow for one flow run. `uri` None: the environment's MLFLOW_TRACKING_URI, else the store's own database. `flow`
    names the flow run: a retry under the same name goes on in the same MLflow runs."""

    def __init__(
        self,
        store: Path,
        name: str,
        recipe: dict[str, Any],
        *,
        uri: str | None = None,
        flow: str | None = None,
        tags: dict[str, str | None] | None = None,
    ) -> None:
        self.store, self.name = store, name
        self.uri = bare(uri or os.environ.get("MLFLOW_TRACKING_URI"))
        if self.uri == own_uri(store):
            self.uri = None
        self._held = contextlib.ExitStack()
        self._spool = self._own(flow or str(uuid.uuid4()))
        self._lost, self._failed, self._told = 0, "", False
        self._parent, self._experiment = "", ""
        self._closing = threading.Event()
        self.tell(
            "open",
            name=name,
            project=recipe.get("project") or "imbik",
            recipe=recipe,
            host=platform.node(),
            tags=tags or {},
        )
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def _own(self, flow: str) -> Spool:
        """The spool of this flow run, held as long as this process lives."""
        for turn in range(100):
            spool = Spool(self.store, f"{flow}-{turn}" if turn else flow)
            if self._held.enter_context(spool.held()):
                sent = spool.sent()
                sent.uri = self.uri
                spool.save(sent)
                return spool
        raise AssertionError("a hundred processes run this one flow run")

    @property
    def flow(self) -> str:
        """The flow run's name in the tags of its MLflow runs."""
        return self._spool.flow

    def ids(self) -> dict[str, str]:
        """Ids for records: the flow's own, which MLflow's runs carry as a tag, and MLflow's where it is known."""
        return {"flow": self.flow} | ({"mlflow": self._parent} if self._parent else {})

    def link(self) -> str | None:
        """The page of this run on MLflow's server; None where there is no server, or the run has not reached it yet."""
        uri = (self.uri or own_uri(self.store)).rstrip("/")
        if not uri.startswith("http") or not self._parent:
            return None
        # else the menu is of chats
        return f"{uri}/#/experiments/{self._experiment}/runs/{self._parent}?workflowType=machine_learning"

    def tell(self, event: str, **told: Any) -> None:
        """Note an event. Never raises: where the disk does not take it, the sealed artifacts still hold what it
        said."""
        try:
            self._spool.append(event, **told)
        except OSError:
            self._lost += 1

    def begin(self, label: str, stage: str, key: str, work: Path) -> None:
        """A stage's job starts, in its work folder."""
        self.tell("begin", label=label, stage=stage, key=key, work=str(work))

    def failed(self, label: str, sentence: str) -> None:
        """A stage's job ended without its result."""
        self.tell("fail", label=label, sentence=sentence)

    def stage(self, label: str, artifact: Artifact, *, cached: bool) -> None:
        """A stage is there: its settings, what is missing of its metrics, and where it is."""
        self.tell("stage", label=label, path=artifact.path, cached=cached)

    def attempt(self, label: str, number: int, told: str) -> None:
        """A stage's job is tried again, as attempt `number`; `told` says why."""
        self.tell("attempt", label=label, number=number, sentence=told)

    def report(self, folder: Path) -> None:
        """The report is there. The run's folder remembers which flow run made it."""
        with contextlib.suppress(OSError):
            (folder / "tracking.json").write_text(json.dumps({"flow": self.flow, "uri": self.uri}) + "\n")
        self.tell("report", folder=str(folder))

    def close(self, *, failed: bool) -> str | None:
        """End the run; returns a sentence when something could not be sent."""
        self.tell("end", status="FAILED" if failed else "FINISHED")
        self._closing.set()
        self._thread.join(FINISH_SECONDS)
        left = self._spool.left
        self._held.close()
        if self._told and not self._lost:
            return None
        what = (
            f"{self._lost} events, for which the disk had no room, are lost"
            if self._lost
            else f"{left:,} bytes of events wait"
        )
        return (
            f"MLflow at {self.uri or own_uri(self.store)} was not told everything ({self._failed or 'it is slow'}):"
            f" {what} in {self.store / FOLDER}; the next run sends them, or imbik sync"
        )

    def _work(self) -> None:
        """Send until the end is sent; after the end a server that fails is not asked again."""
        wait, failed = 0.0, -math.inf
        sender: Sender | None = None
        while True:
            closing = self._closing.wait(wait)
            self._spool.touch()
            if closing and time.monotonic() - failed < AGAIN_SECONDS:
                return
            try:
                sender = sender or Sender(self._spool, client_of(self.store, self.uri), self.store)
                more = sender.send()
                self._parent, self._experiment, self._failed = sender.sent.parent, sender.sent.experiment, ""
                if sender.sent.ended and not more:
                    self._told = True
                    return
                if not more and not closing:
                    self._help()
                wait = 0.0 if more else PERIOD
            except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the run goes on
                self._failed, sender, failed = first_line(error), None, time.monotonic()
                wait = min(max(2 * wait, 2 * PERIOD), LONGEST_WAIT)

    def _help(self) -> None:
        """Send something that an earlier run left."""
        for spool in waiting(self.store):
            if spool.flow != self.flow and spool.sent().uri == self.uri:
                with spool.held() as ours:
                    if ours and replay(self.store, spool):
                        return


def replay(store: Path, spool: Spool) -> bool:
    """Send a chunk of a spool whose flow is gone; False when nothing is left. The caller holds it."""
    sender = Sender(spool, client_of(store, spool.sent().uri), store, until=spool.alive + PERIOD)
    if sender.send():
        return True
    if not sender.sent.ended:  # its process was killed
        spool.append("end", status="KILLED")
        return sender.send()
    return False


def sync(store: Path) -> Iterator[tuple[str, int, str | None]]:
    """Send everything that flows of this store could not: for each its name, its bytes, and why it failed (None: all
    was sent).

    Spools of flows that run are theirs to send.
    """
    for spool in waiting(store):
        with spool.held() as ours:
            if not ours:
                continue
            left = spool.left
            try:
                while replay(store, spool):
                    pass
                if left:  # else it only waits for a request whose answer was lost, which may yet be carried out
                    yield spool.flow, left, None
            except Exception as error:  # noqa: BLE001 - told to the user by the caller
                yield spool.flow, left, first_line(error)


def first_line(error: Exception) -> str:
    """An error as part of a sentence."""
    return masker(os.environ)(" ".join(str(error).split()) or type(error).__name__)[:200]
