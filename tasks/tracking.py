"""Tells MLflow what a flow did: a parent run per flow run, a child per stage, models by reference. It may be late, never in the way.

Everything is sent by one background thread; a server that is slow or gone delays nothing and fails nothing, and what could not be
sent is still in the store, where every artifact holds its record and metrics.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.secrets import masker
from tasks.store import Artifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINISH_SECONDS = 20.0
"""How long the end of a flow waits for what is still to be sent."""

BATCH = 1000
"""Metrics MLflow takes at once."""

EXPERIMENT = "imbik"


class Tracker:
    """MLflow for one flow run. With `uri` None, a SQLite database in the store."""

    def __init__(self, store: Path, name: str, description: dict[str, Any], uri: str | None = None) -> None:
        self.store, self.name, self.description = store, name, description
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store}/mlflow.db"
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._client: MlflowClient | None = None
        self._experiment = self._parent = ""
        self._failed: str | None = None
        self._ids: dict[str, str] = {}
        # Without these MLflow retries a dead server for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
        self._thread.start()
        self._queue.put(self._open)

    def ids(self) -> dict[str, str]:
        """Run ids known so far, for records."""
        return dict(self._ids)

    def stage(self, label: str, artifact: Artifact, *, cached: bool) -> None:
        """A stage is there: its settings, metrics and where it is."""
        self._queue.put(lambda: self._log_stage(label, artifact, cached))

    def attempt(self, label: str, number: int, told: str) -> None:
        """A stage's job is tried again, as attempt `number`; `told` says why."""
        self._queue.put(lambda: self._tag(f"imbik.attempt.{label}.{number}", told))

    def report(self, folder: Path) -> None:
        """The report's files become artifacts of the parent run."""
        self._queue.put(lambda: self._log_report(folder))

    def close(self, *, failed: bool) -> str | None:
        """Finish the parent run; returns a sentence when something could not be sent."""
        self._queue.put(lambda: self._end(failed))
        self._queue.put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            return f"MLflow at {masker(os.environ)(self.uri)} is slow: not everything was sent; records and metrics are in the store"
        return self._failed

    def _send(self) -> None:
        while (action := self._queue.get()) is not None:
            if self._failed:
                continue
            try:
                action()
            except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the run goes on
                first = (str(error).splitlines() or [type(error).__name__])[0][:200]
                said = f"MLflow at {self.uri} could not be written ({first}); records and metrics are in the store"
                self._failed = masker(os.environ)(said)

    def _open(self) -> None:
        import logging

        logging.getLogger("alembic").setLevel(logging.ERROR)
        from mlflow import MlflowClient

        local = f"file://{self.store}/mlflow-artifacts" if self.uri.startswith("sqlite") else None
        with (self.store / ".work" / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would both make the database
            self._client = MlflowClient(tracking_uri=self.uri)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT, artifact_location=local)
        run = self._client.create_run(self._experiment, run_name=self.name, tags={"imbik.kind": "flow"})
        self._parent = run.info.run_id
        self._ids = {"mlflow": self._parent}
        for key, value in _flat(self.description):
            self._client.log_param(self._parent, key, value[:500])

    def _tag(self, key: str, value: str) -> None:
        assert self._client is not None
        self._client.set_tag(self._parent, key, value[:5000])

    @contextmanager
    def _child(self, label: str, tags: dict[str, str]) -> Iterator[str]:
        assert self._client is not None
        tags = {"mlflow.parentRunId": self._parent, "imbik.kind": "stage"} | tags
        run = self._client.create_run(self._experiment, run_name=label, tags=tags).info.run_id
        yield run
        self._client.set_terminated(run)

    def _log_stage(self, label: str, artifact: Artifact, cached: bool) -> None:
        from mlflow.entities import Metric, Param

        assert self._client is not None
        record, path = artifact.record, Path(artifact.path)
        tags = {"imbik.stage": record.stage, "imbik.key": record.key, "imbik.path": artifact.path, "imbik.cached": str(cached)}
        weights = {name: file for name, file in record.files.items() if name.endswith((".safetensors", ".bin"))}
        if weights:
            tags["imbik.bytes"] = str(sum(file.bytes for file in weights.values()))
            tags["imbik.sha256"] = json.dumps({name: file.sha256 for name, file in weights.items()})[:5000]
        with self._child(label, tags) as run:
            params = [Param(key, value[:500]) for key, value in _flat(record.config)]
            for start in range(0, len(params), 100):
                self._client.log_batch(run, params=params[start : start + 100])
            metrics = [Metric("seconds", record.seconds, 0, 0), Metric("attempts", max(1, len(record.attempts)), 0, 0), *_metrics(path)]
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(run, metrics=metrics[start : start + BATCH])
            if record.stage == "data":
                self._log_data(run, record.key, path)

    def _log_data(self, run: str, key: str, path: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        assert self._client is not None
        statistics = json.loads((path / "statistics.json").read_text())
        dataset = Dataset(
            name="corpus",
            digest=key[:32],
            source_type="local",
            source=json.dumps({"uri": str(path)}),
            profile=json.dumps(statistics["splits"]),
        )
        self._client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _log_report(self, folder: Path) -> None:
        assert self._client is not None
        for name in ("report.json", "report.md", "report.html"):
            self._client.log_artifact(self._parent, str(folder / name))
        if (folder / "plots").is_dir():
            self._client.log_artifacts(self._parent, str(folder / "plots"), "plots")
        report = json.loads((folder / "report.json").read_text())
        for gate in report["gates"]:
            self._client.set_tag(self._parent, f"imbik.gate.{gate['model']}.{gate['gate']}", gate["sentence"])
        for row in report["rows"]:
            for name in ("mmlu", "val_loss", "perplexity", "kl_teacher", "num_params", "bytes"):
                if row.get(name) is not None:
                    self._client.log_metric(self._parent, f"{row['model']}.{name}", row[name])

    def _end(self, failed: bool) -> None:
        assert self._client is not None
        self._client.set_terminated(self._parent, status="FAILED" if failed else "FINISHED")


def _metrics(path: Path) -> list[Any]:
    """The step metrics a job wrote, as MLflow's; values that are not finite are left out, which SQLite cannot hold."""
    import math

    from mlflow.entities import Metric

    file = path / "metrics.jsonl"
    found = []
    for text in file.read_text().splitlines() if file.is_file() else []:
        line = json.loads(text)
        for name, value in line["values"].items():
            if math.isfinite(value):
                found.append(Metric(name, value, int(line["time"] * 1000), line["step"]))
    return found


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif value not in (None, [], {}):
        yield prefix, str(value)
