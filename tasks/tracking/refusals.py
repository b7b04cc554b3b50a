"""What MLflow refuses for good: one bad entry must not take the others along, and nothing refused counts as sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tasks.store.store import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

Entry = TypeVar("Entry")
LASTING = (400, 404, 409, 413)
"""Status codes that a retry would not change."""


def is_lasting(error: Exception) -> bool:
    """Whether the same request would fail again: MLflow refused its content, or a file of the store is missing."""
    status = getattr(error, "get_http_status_code", lambda: 0)()
    return status in LASTING or isinstance(error, (KeyError, FileNotFoundError, StoreError))


def described(what: str, error: Exception) -> str:
    """A refusal as one line."""
    return f"{what.strip()}: {' '.join(str(error).split())[:200]}"


def each(
    entries: Sequence[Entry],
    send: Callable[[Sequence[Entry]], object],
    refuse: Callable[[Sequence[Entry], Exception], None],
    worth_trying: Callable[[], bool],
) -> None:
    """Send entries at once, or in ever smaller parts where one of them is refused. `refuse` gets those that MLflow does
    not take; all of them if it is not `worth_trying`. Raises errors that a retry may fix."""
    try:
        send(entries)
    except Exception as error:
        if not is_lasting(error):
            raise
        if len(entries) == 1 or not worth_trying():
            refuse(entries, error)
            return
        half = len(entries) // 2
        for part in (entries[:half], entries[half:]):
            each(part, send, refuse, worth_trying)


def is_active(client: MlflowClient, run: str) -> bool:
    """Whether MLflow takes anything for a run: it is there and not deleted."""
    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except Exception as error:
        if not is_lasting(error):
            raise
        return False


def restored(client: MlflowClient, experiment: Experiment) -> str | None:
    """Restore an experiment if it was deleted; a sentence that says so."""
    if experiment.lifecycle_stage == "active":
        return None
    client.restore_experiment(experiment.experiment_id)
    return f"the experiment {experiment.name} was deleted in MLflow; it was restored, with its earlier runs"
