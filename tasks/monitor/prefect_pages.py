"""What a run shows in Prefect's UI: named states, progress bars, links, tables and plots. Failures here never fail a
run."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.states import Completed, Failed

from conf.markdown import escape
from conf.report.report import Report
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from tasks.session import Session

MOVE_SECONDS = 2.0
"""Between updates of a progress bar; each is a request to the server."""
TRIES = 20
"""Of creating an artifact in its half of a page; each succeeds with one half."""
CACHED = "Cached"
"""Name of the completed state of a stage or run that built nothing."""


def cached(artifact: Artifact) -> Artifact:
    """A cached artifact, in a state `Cached` for its task run."""
    # Prefect unwraps a returned state to its value and shows its name and message.
    return cast(
        Artifact,
        Completed(name=CACHED, message=f"already in the store: {artifact.stage}/{artifact.key}", data=artifact),
    )


def ended(value: str, session: Session) -> str:
    """Return value of a successful flow; its state lists what was built and what was cached."""
    built = [label for label, (_, was_cached) in session.stages.items() if not was_cached]
    cached = len(session.stages) - len(built)
    if not built:
        message = f"Nothing was built: inputs and settings are unchanged, and all {cached} stages were in the store."
        return cast(str, Completed(name=CACHED, message=message, data=value))
    message = f"Built {len(built)} of {len(session.stages)} stages: {', '.join(built)}." + (
        " The others were in the store." if cached else ""
    )
    return cast(str, Completed(message=message, data=value))


def failed(error: Exception) -> str:
    """Return value of a flow that failed with a one-sentence error: a failed state without Prefect's traceback.

    The caller of the flow gets `error`; Prefect logs it again at the end of the process, also without a traceback."""
    in_one_sentence(type(error))
    sentence = " ".join(str(error).split())
    _failure(sentence)
    return cast(str, Failed(message=sentence, data=error))


def _failure(sentence: str) -> None:
    """Show the error as an artifact on the run's timeline, where it is easier to find than in the log."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import flow_run

    next_step = (
        "Finished stages are in the store: fix the cause, then use Retry or run again with other settings to continue."
    )
    if flow_run.id:
        with contextlib.suppress(Exception):
            shown = escape(sentence)
            create_markdown_artifact(f"## Failed\n\n{shown}\n\n{next_step}", key="failure", description=shown)


class _OneSentence(logging.Filter):
    """Omits tracebacks of one-sentence errors from the log, and Prefect's warning about futures when a run is
    suspended, which ends waiting tasks."""

    def __init__(self, kinds: tuple[type[BaseException], ...]) -> None:
        super().__init__()
        self.kinds = kinds

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], self.kinds):
            record.msg, record.args = " ".join(str(record.exc_info[1]).split()), ()
            record.exc_info = None
        return "Please wait for all submitted tasks to complete" not in record.getMessage()


def in_one_sentence(*kinds: type[BaseException]) -> None:
    """Log these errors of tasks as one sentence, without a traceback."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _OneSentence) for existing in logger.filters):
            logger.addFilter(_OneSentence(kinds))


class Bar:
    """A stage's progress bar. Create and move it in the stage's task; if the server does not answer, it stops
    updating."""

    def __init__(self, label: str) -> None:
        self._label, self._next, self._id = label, 0.0, cast(UUID | None, None)

    def move(self, step: int, total: int | None) -> None:
        """Set the progress to `step` of `total` steps."""
        if not total or (time.monotonic() < self._next and step < total):
            return
        share = min(100.0, 100.0 * step / total)
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        try:
            if self._id is None:
                self._id = cast(
                    UUID, create_progress_artifact(share, key=_key(f"progress-{self._label}"), description=self._label)
                )
            else:
                update_progress_artifact(self._id, share)
            self._next = time.monotonic() + MOVE_SECONDS
        except Exception:  # noqa: BLE001 - no run or no server: the job continues
            self._next = float("inf")

    def put_away(self) -> None:
        """Remove the bar when its stage has ended, so that the page shows results."""
        if self._id is None:
            return
        from prefect.client.orchestration import get_client

        with contextlib.suppress(Exception), get_client(sync_client=True) as client:
            client.delete_artifact(self._id)
        self._id, self._next = None, float("inf")


def tag(*tags: str) -> None:
    """Set tags kind:value of the flow run; they replace tags of the same kind from the deployment."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        kinds = {text.partition(":")[0] for text in tags}
        run = UUID(str(flow_run.id))
        others = {text for text in client.read_flow_run(run).tags if text.partition(":")[0] not in kinds}
        client.update_flow_run(run, tags=sorted({*others, *tags}))


def link_mlflow(session: Session) -> None:
    """Link the flow run to its page in MLflow, once, as soon as the page exists."""
    link = session.tracker.link()
    if not link or not session.linking.acquire(blocking=False):
        return
    try:
        _link(link, "mlflow", f"{session.name} in MLflow")
    except Exception:  # noqa: BLE001 - a missing link is not an error; the next stage tries again
        session.linking.release()


def _link(address: str, key: str, text: str) -> None:
    """Add a link to the flow run's page; Prefect's own function would attach it to the current task."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run

    artifact = ArtifactCreate(
        key=key,
        type="markdown",
        description=text,
        data=f"[{escape(text)}]({address})",
        flow_run_id=UUID(str(flow_run.id)),
    )
    with get_client(sync_client=True) as client:
        _placed(lambda: client.create_artifact(artifact).id, first=False)


def publish(session: Session, folder: Path, report: Report, markdown: str, models: list[tuple[str, ...]]) -> None:
    """Publish a run's report on its page: the report itself, first, its models (header and lines of their table), and
    the folder of each stage."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    link_mlflow(session)
    with contextlib.suppress(Exception):
        folders = [
            {
                "stage": label,
                "state": "in the store already" if cached else "built",
                "folder": os.fspath(folder / label),
                "key": artifact.key,
            }
            for label, (artifact, cached) in session.stages.items()
        ]
        name, text = report.name, with_pictures(markdown, folder)
        _placed(partial(create_markdown_artifact, text, key="report", description=f"Report of {name}"), first=True)
        if rows := [dict(zip(models[0], line, strict=True)) for line in models[1:]]:
            _placed(partial(create_table_artifact, rows, key="models", description=f"Models of {name}"), first=False)
        about = f"Folders of the stages of {name}"
        _placed(partial(create_table_artifact, folders, key="store", description=about), first=False)


def _placed(create: Callable[[], object], *, first: bool) -> None:
    """Create an artifact in the first or the second half of its run's page, which sorts by ids, the highest first. Ids
    are random, so it is created until it has one of that half."""
    from prefect.client.orchestration import get_client

    for turn in range(TRIES):
        created = UUID(str(create()))
        if (created.int >> 127 == 1) == first or turn == TRIES - 1:
            return
        with get_client(sync_client=True) as client:
            client.delete_artifact(created)


def with_pictures(markdown: str, folder: Path) -> str:
    """A report's Markdown with its figures in place of the links to their files, which a page cannot read."""
    for path in sorted((folder / "plots").glob("*.svg")):
        markdown = markdown.replace(f"](plots/{path.name})", f"]({_embedded(path)})")
    return markdown


def _embedded(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _key(text: str) -> str:
    """A valid artifact key for Prefect: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())
