"""Sends a spool to MLflow: one run per flow run, one nested run per stage. Remembers what was confirmed.

MLflow ignores parameters, tags and metric values that it already has, so retrying after a lost answer is safe; new
runs, which it would create twice, are looked up by a tag first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Record
from tasks.store.moved import here
from tasks.tracking import mlflow_runs, refusals, trials
from tasks.tracking.followed import FOLLOWED, NewMetrics
from tasks.tracking.servers import artifacts_uri
from tasks.tracking.spool import Event, SentState, Spool
from tasks.tracking.units import described

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

BATCH = 1000
"""Maximum metrics per request to MLflow."""
SMALL_BATCH = 100
"""Maximum parameters or tags per request."""
CHUNK = 2000
"""Maximum events per read."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's UI shows an experiment without a kind as one of prompts and traces."""
LATE_SECONDS = 120.0
"""An unanswered request may still be executed, but not after this long."""
TAG_LENGTH = 5000


class Sender:
    """Sends one spool, whose lock the caller holds, and the metrics of its running jobs. Lines after `until` (seconds
    since 1970) belong to a later flow in the same folder."""

    def __init__(self, spool: Spool, client: MlflowClient, store: Path, until: float = math.inf) -> None:
        self.spool, self.client, self.store, self.until = spool, client, store, until
        self.sent: SentState = spool.sent()
        self._buffered: dict[str, list[Metric]] = {}
        self._lines = NewMetrics()
        self._handlers: dict[str, Callable[[Event], None]] = {
            "open": self._open,
            "begin": self._begin,
            "attempt": self._attempt,
            "stage": self._stage,
            "fail": self._fail,
            "trial": partial(trials.begin, self),
            "trial-ended": partial(trials.end, self),
            "report": self._report,
            "end": self._end,
        }

    def send(self) -> bool:
        """Send all new events; False if there were none. Raises errors of MLflow's client; call again later."""
        events = list(self.spool.read(self.sent.offset, CHUNK))
        for event, offset in events:
            self._handle(event)
            self.sent.offset = offset  # a later failure does not repeat this event
            self.spool.save(self.sent)
        for label, folder in self.sent.live.items():
            self._follow(label, Path(folder))
        if not events and self.sent.ended and not self.sent.done and time.time() - self.sent.doubt > LATE_SECONDS:
            if self.sent.doubt:
                self._remove_twins()
            self.sent.done = True
            self.spool.save(self.sent)
        return bool(events)

    def _handle(self, event: Event) -> None:
        try:
            self._handlers[event["event"]](event)
        except Exception as error:  # noqa: BLE001 - re-raised unless it is permanent
            self._leave_out(f"{event['event']} {event.get('label', '')}", error)

    def _leave_out(self, what: str, error: Exception) -> None:
        """Note permanent errors and missing files; re-raise others, which a retry may fix."""
        if not refusals.is_lasting(error):
            raise error
        self.sent.refused.append(refusals.described(what, error))

    def _part(self, what: str, action: Callable[[], object]) -> None:
        """One of several requests of an event: what is refused does not take the next ones along."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - re-raised unless it is permanent
            self._leave_out(what, error)

    def log(self, run: str, what: str, **entries: Sequence[Any]) -> None:
        """Log one kind of entries (params, tags or metrics) of a run; what MLflow refuses is noted by name, the rest is
        logged."""
        (kind, all_entries), size = next(iter(entries.items())), BATCH if "metrics" in entries else SMALL_BATCH

        def refuse(refused: Sequence[Any], error: Exception) -> None:
            names = list(dict.fromkeys(entry.key for entry in refused))
            self._leave_out(f"{kind} {', '.join(names)[:200]} of {what}", error)

        def send(part: Sequence[Any]) -> None:
            arguments: dict[str, Any] = {kind: part}
            self.client.log_batch(run, **arguments)

        for start in range(0, len(all_entries), size):
            refusals.each(
                all_entries[start : start + size],
                send,
                refuse,
                lambda: refusals.is_active(self.client, run),
            )

    def _open(self, event: Event) -> None:
        from mlflow.entities import Param

        self._experiment(event["project"])
        tags = {
            "imbik.kind": "flow",
            "imbik.name": event["name"],
            "imbik.host": event["host"],
            "imbik.store": str(self.store),
        }
        tags |= {f"imbik.{key}": str(value)[:TAG_LENGTH] for key, value in event["tags"].items() if value}
        self.sent.parent = self.run("", event["name"], tags, event["at"])
        self.client.update_run(self.sent.parent, status="RUNNING")
        params = [Param(key, value[:500]) for key, value in mlflow_runs.params_of(event["recipe"]).items()]
        self.log(self.sent.parent, "the run", params=params)
        self.sent.ended = self.sent.done = False
        self.spool.save(self.sent)

    def _experiment(self, project: str) -> None:
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(project)
        if experiment is None:
            local = self.sent.uri is None
            try:
                place = artifacts_uri(self.store) if local else None
                self.sent.experiment = self.client.create_experiment(project, artifact_location=place, tags=KIND)
                return
            except MlflowException:  # created concurrently by another run
                experiment = self.client.get_experiment_by_name(project)
                if experiment is None:
                    raise
        self.sent.notes += filter(None, [refusals.restored(self.client, experiment)])
        self.sent.experiment = experiment.experiment_id

    def run(self, label: str, name: str, tags: dict[str, str], at: int) -> str:
        """The run of a label; created if it does not exist."""
        if label in self.sent.runs:
            return self.sent.runs[label]
        mark = f"{self.spool.flow}/{label}"
        existing = self.client.search_runs([self.sent.experiment], f"tags.`imbik.id` = '{mark}'", max_results=1)
        if existing:
            self.sent.runs[label] = existing[0].info.run_id
            for key, value in tags.items():  # its parent may be new, because the former one was deleted
                if existing[0].data.tags.get(key) != value:
                    self.client.set_tag(self.sent.runs[label], key, value)
        else:
            tags = {"imbik.id": mark, "imbik.flow": self.spool.flow} | tags
            before, self.sent.doubt = self.sent.doubt, time.time()
            self.spool.save(self.sent)
            try:
                run = self.client.create_run(self.sent.experiment, run_name=name, tags=tags, start_time=at)
            except Exception as error:
                if refusals.is_lasting(error):  # it was answered, so there is no run
                    self.sent.doubt = before
                raise
            self.sent.runs[label], self.sent.doubt = run.info.run_id, before
        self.spool.save(self.sent)
        return self.sent.runs[label]

    def _begin(self, event: Event) -> None:
        label = event["label"]
        tags = {
            "mlflow.parentRunId": trials.above(self.sent, event),
            "imbik.kind": "stage",
            "imbik.stage": event["stage"],
            "imbik.key": event["key"],
        }
        run = self.run(label, label, tags, event["at"])
        self.client.update_run(run, status="RUNNING")
        self.sent.live[label] = event["work"]

    def _attempt(self, event: Event) -> None:
        """Tag a retry of a stage on the flow's run."""
        tag = f"imbik.attempt.{event['label']}.{event['number']}"
        self.client.set_tag(self.sent.parent, tag, event["sentence"][:TAG_LENGTH])

    def _buffer(self, label: str, step: int, seconds: float, values: dict[str, float]) -> None:
        """Buffer metric values, each step once: a resumed job repeats the steps after its checkpoint."""
        from mlflow.entities import Metric

        last = self.sent.steps.setdefault(label, {})
        metrics = self._buffered.setdefault(label, [])
        for name, value in values.items():
            if step > last.get(name, -1) and math.isfinite(value):  # the database cannot store infinities
                metrics.append(Metric(name, value, int(seconds * 1000), step))
                last[name] = step
        if len(metrics) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        """Send buffered metrics. On failure, they are read again later."""
        buffered, self._buffered = self._buffered, {}
        try:
            for label, metrics in buffered.items():
                self.log(self.sent.runs[label], label, metrics=metrics)
        except BaseException:
            self.sent = self.spool.sent()
            raise
        if buffered:
            self.spool.save(self.sent)

    def _follow(self, label: str, folder: Path) -> None:
        """Send new lines of a job's metrics."""
        for pattern in FOLLOWED:
            for path in sorted(folder.glob(pattern)):
                for line in self._lines.of(path):
                    if line["time"] <= self.until:
                        self._buffer(label, line["step"], line["time"], line["values"])
        self._flush()

    def _stage(self, event: Event) -> None:
        label, folder = event["label"], here(Path(event["path"]), self.store)
        record = Record.model_validate_json((folder / "artifact.json").read_text(encoding="utf-8"))
        tags = {
            "mlflow.parentRunId": trials.above(self.sent, event),
            "imbik.kind": "stage",
            "imbik.stage": record.stage,
            "imbik.key": record.key,
        }
        from mlflow.entities import Param, RunTag

        run = self.run(label, label, tags, event["at"])
        run_tags = [
            RunTag(key, value[:TAG_LENGTH])
            for key, value in mlflow_runs.tags_of(record, folder, event["cached"]).items()
        ]
        self.log(run, label, tags=run_tags)
        params = [Param(key, value[:500]) for key, value in mlflow_runs.params_of(record.config).items()]
        self.log(run, label, params=params)
        self._buffer(
            label, 0, event["at"] / 1000, {"seconds": record.seconds, "attempts": max(1, len(record.attempts))}
        )
        self._follow(label, folder)
        note = described(self.sent.steps[label])
        self._part(f"note of {label}", lambda: self.client.set_tag(run, "mlflow.note.content", note))
        self._part(f"corpus of {label}", lambda: mlflow_runs.log_inputs(self.client, run, record, folder))
        self._part(f"end of {label}", partial(self._terminate, run, "FINISHED", event["at"]))
        self.sent.made[label] = str(folder)
        self.sent.live.pop(label, None)
        self.spool.save(self.sent)

    def _fail(self, event: Event) -> None:
        run = self.sent.runs.get(event["label"])
        folder = self.sent.live.pop(event["label"], None)
        if run:
            if folder:
                self._follow(event["label"], Path(folder))
            self.client.set_tag(run, "imbik.error", event["sentence"][:TAG_LENGTH])
            stopped = event.get("stopped", False)
            self.client.set_terminated(run, status="KILLED" if stopped else "FAILED", end_time=event["at"])

    def _report(self, event: Event) -> None:
        def once(part: str, action: Callable[[], object]) -> None:
            """Run each part once: a failed request must not restart the whole report."""
            mark = f"{event['at']} {part}"
            if mark not in self.sent.told:
                self._part(f"{part} of the report", action)
                self.sent.told.append(mark)
                self.spool.save(self.sent)

        folder = self.store / "runs" / Path(event["folder"]).name  # the store may have moved since
        mlflow_runs.log_report(self.client, self.sent, folder, once)

    def _end(self, event: Event) -> None:
        if self.sent.parent:
            for label in list(self.sent.live):  # stages without an end event
                self._part(f"end of {label}", partial(self._terminate, self.sent.runs[label], "KILLED", event["at"]))
                self.sent.live.pop(label)
            self._part("trials", partial(trials.close, self, event))
            self._part("end of the run", partial(self._terminate, self.sent.parent, event["status"], event["at"]))
            self._part("runs created twice", self._remove_twins)
        self.sent.ended = True

    def _terminate(self, run: str, status: str, at: int) -> None:
        self.client.set_terminated(run, status=status, end_time=at)

    def _remove_twins(self) -> None:
        """Delete runs that were created twice because an answer was lost."""
        known = set(self.sent.runs.values())
        for run in self.client.search_runs(
            [self.sent.experiment], f"tags.`imbik.flow` = '{self.spool.flow}'", max_results=1000
        ):
            if run.info.run_id not in known:
                self.client.delete_run(run.info.run_id)
