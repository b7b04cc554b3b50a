"""Logs a running flow to MLflow without delaying it: the flow appends events to a file in the store, and jobs append
metrics to their own files.

A background thread sends them, first this run's, then those that earlier runs could not send; see `spool` and `sender`.
What a slow or failing server misses is sent by the next run of the store or by `imbik sync`."""

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
from tasks.tracking.spool import FOLDER, SentState, Spool, waiting

PERIOD = 1.0
"""Seconds between reads of the spool, about the delay of metrics in MLflow."""
AGAIN_SECONDS = 10.0
"""At the end of a flow, a server that failed more recently is not retried."""
LONGEST_WAIT = 60.0
"""Maximum seconds between retries of a failing server."""
FINISH_SECONDS = 20.0
"""How long the end of a flow waits for unsent events while the server answers."""


class Tracker:
    """MLflow tracking of one flow run. `uri` None: MLFLOW_TRACKING_URI, else the store's own database. `flow`
    identifies the flow run: a retry with the same id continues the same MLflow runs."""

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
        self.uri = bare(uri or os.environ.get("MLFLOW_TRACKING_URI") or None)
        if self.uri == own_uri(store):
            self.uri = None
        self._held = contextlib.ExitStack()
        self._spool = self._own(flow or str(uuid.uuid4()))
        self._lost, self._failed, self._all_sent = 0, "", False
        self._parent, self._experiment = "", ""
        self._closing = threading.Event()
        self._above: dict[str, str] = {}
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
        """The spool of this flow run, locked until this process ends."""
        for turn in range(100):
            spool = Spool(self.store, f"{flow}-{turn}" if turn else flow)
            if self._held.enter_context(spool.held()):
                sent = spool.sent()
                sent.uri = self.uri
                spool.save(sent)
                return spool
        raise AssertionError("a hundred processes use this flow run id")

    @property
    def flow(self) -> str:
        """The flow run's id in the tags of its MLflow runs."""
        return self._spool.flow

    def ids(self) -> dict[str, str]:
        """Ids for records: the flow run's id, which MLflow runs have as a tag, and MLflow's run id if known."""
        return {"flow": self.flow} | ({"mlflow": self._parent} if self._parent else {})

    def link(self) -> str | None:
        """URL of this run on MLflow's server; None without a server, or if the run has not reached it yet."""
        uri = (self.uri or own_uri(self.store)).rstrip("/")
        if not uri.startswith("http") or not self._parent:
            return None
        # otherwise MLflow shows the menu for chats
        return f"{uri}/#/experiments/{self._experiment}/runs/{self._parent}?workflowType=machine_learning"

    def tell(self, event: str, **fields: Any) -> None:
        """Append an event. Never raises: if the disk is full, the sealed artifacts still have the content."""
        try:
            self._spool.append(event, **fields)
        except OSError:
            self._lost += 1

    def begin(self, label: str, stage: str, key: str, work: Path) -> None:
        """Log the start of a stage's job in its work folder."""
        self.tell("begin", label=label, stage=stage, key=key, work=str(work), **self._within(label))

    def failed(self, label: str, sentence: str, *, stopped: bool = False) -> None:
        """Log the failure of a stage's job, or that it was `stopped` with its run."""
        self.tell("fail", label=label, sentence=sentence, stopped=stopped)

    def stage(self, label: str, artifact: Artifact, *, cached: bool) -> None:
        """Log a finished stage: settings, remaining metrics, and its folder."""
        self.tell("stage", label=label, path=artifact.path, cached=cached, **self._within(label))

    def trial(self, name: str, point: dict[str, Any]) -> None:
        """Log a trial of a study: a run within this one, with its values as parameters. Once is enough."""
        if name not in self._above.values():
            self._above[f"trial {name}"] = name
            self.tell("trial", name=name, point=point)

    def nest(self, label: str, name: str) -> None:
        """Log the stage of this label within a trial's run."""
        self._above[label] = name

    def trial_ended(self, name: str, values: dict[str, float], failed: str | None) -> None:
        """Log a trial's objectives, or why it failed."""
        self.tell("trial-ended", name=name, values=values, failed=failed)

    def _within(self, label: str) -> dict[str, str]:
        return {"within": self._above[label]} if label in self._above else {}

    def attempt(self, label: str, number: int, reason: str) -> None:
        """Log a retry of a stage's job as attempt `number`, with the reason."""
        self.tell("attempt", label=label, number=number, sentence=reason)

    def report(self, folder: Path) -> None:
        """Log the report, and note the flow run's id in the run's folder."""
        with contextlib.suppress(OSError):
            (folder / "tracking.json").write_text(json.dumps({"flow": self.flow, "uri": self.uri}) + "\n")
        self.tell("report", folder=str(folder))

    def close(self, *, failed: bool, stopped: bool = False) -> str | None:
        """End the run as `stopped`, `failed` or finished; returns what there is to tell: events that could not be sent,
        that MLflow refused, or what had to be done there."""
        self.tell("end", status="KILLED" if stopped else "FAILED" if failed else "FINISHED")
        self._closing.set()
        self._thread.join(FINISH_SECONDS)
        unsent, sent = self._spool.unsent, self._spool.sent()
        self._held.close()
        late = None if self._all_sent and not self._lost else self._late(unsent)
        refused = refusal(self.uri or own_uri(self.store), self._spool, sent) if sent.refused else None
        return "\n".join(filter(None, [*sent.notes, refused, late])) or None

    def _late(self, unsent: int) -> str:
        state = (
            f"{self._lost} events are lost because the disk was full" if self._lost else f"{unsent:,} bytes are queued"
        )
        return (
            f"some metrics have not reached MLflow at {self.uri or own_uri(self.store)} yet"
            f" ({self._failed or 'it is slow'}); {state} in {self.store / FOLDER}; imbik sync or the next run sends"
            " what is queued"
        )

    def _work(self) -> None:
        """Send events until the end event is sent; after that, a failing server is not retried."""
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
                    self._all_sent = True
                    return
                if not more and not closing:
                    self._help()
                wait = 0.0 if more else PERIOD
            except Exception as error:  # noqa: BLE001 - tracking errors never fail a run
                self._failed, sender, failed = first_line(error), None, time.monotonic()
                wait = min(max(2 * wait, 2 * PERIOD), LONGEST_WAIT)

    def _help(self) -> None:
        """Send a chunk that an earlier run left."""
        for spool in waiting(self.store):
            sent = spool.sent()
            if spool.flow != self.flow and sent.uri == self.uri and not sent.done:  # imbik sync tries refused ones
                with spool.held() as ours:
                    if ours and replay(self.store, spool):
                        return


def replay(store: Path, spool: Spool) -> bool:
    """Send a chunk of a spool whose flow is gone; False if nothing is left. The caller holds its lock."""
    sender = Sender(spool, client_of(store, spool.sent().uri), store, until=spool.alive + PERIOD)
    if sender.send():
        return True
    if not sender.sent.ended:  # its process was killed
        spool.append("end", status="KILLED")
        return sender.send()
    return False


def sync(store: Path) -> Iterator[tuple[str, int, str | None]]:
    """Send everything that flows of this store could not send. Yields for each its id, its bytes, and the reason of a
    failure (None: all sent).

    Spools of running flows are skipped.
    """
    for spool in waiting(store):
        with spool.held() as ours:
            if not ours:
                continue
            if spool.sent().refused:
                spool.start_over()
            unsent = spool.unsent
            try:
                while replay(store, spool):
                    pass
                sent = spool.sent()
                if sent.refused:
                    yield spool.flow, unsent, refusal(sent.uri or own_uri(store), spool, sent)
                elif unsent:  # otherwise it only waits for an unanswered request that may still be executed
                    yield spool.flow, unsent, None
            except Exception as error:  # noqa: BLE001 - the caller reports it
                yield spool.flow, unsent, first_line(error)


def refusal(where: str, spool: Spool, sent: SentState) -> str:
    """What MLflow did not take of a flow run, for use within a sentence."""
    first, more = masker(os.environ)(sent.refused[0]), len(sent.refused) - 1
    return (
        f"MLflow at {where} refused {first}{f', and {more} more' if more else ''} (all in {spool.state}); once that is"
        f" put right, imbik sync sends it again; to give it up, delete {spool.path}"
    )


def first_line(error: Exception) -> str:
    """An error message for use within a sentence."""
    return masker(os.environ)(" ".join(str(error).split()) or type(error).__name__)[:200]
