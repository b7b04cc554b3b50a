"""What a run shows on Prefect's pages: states with names, bars that move, links, tables and pictures. None of it can
fail a run."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.states import Completed, Failed

from conf.report.report import Report
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from tasks.session import Session

MOVE_SECONDS = 2.0
"""Between two moves of a progress bar: each is a request to the server."""
CACHED = "Cached"
"""Name of the completed state of a stage, or of a whole run, for which nothing had to be built."""


def cached(artifact: Artifact) -> Artifact:
    """An artifact that was found rather than built; its task run ends as `Cached`."""
    # Prefect takes a state for the value that it carries; its name and message are what its pages show.
    return cast(
        Artifact,
        Completed(name=CACHED, message=f"in the store already: {artifact.stage}/{artifact.key}", data=artifact),
    )


def ended(value: str, session: Session) -> str:
    """What a flow gives back that went well; its state says what was built and what was there already."""
    built = [label for label, (_, found) in session.stages.items() if not found]
    there = len(session.stages) - len(built)
    if not built:
        message = f"Nothing was built: no input and no setting changed, and all {there} stages were in the store."
        return cast(str, Completed(name=CACHED, message=message, data=value))
    message = f"Built {len(built)} of {len(session.stages)} stages: {', '.join(built)}." + (
        " The others were in the store." if there else ""
    )
    return cast(str, Completed(message=message, data=value))


def failed(error: Exception) -> str:
    """What a flow gives back that failed for a reason that one sentence tells: that sentence, where Prefect would add a
    traceback.

    Whoever called the flow gets `error` raised, and Prefect logs it once more when the process ends: by its sentence
    alone too."""
    in_one_sentence(type(error))
    sentence = " ".join(str(error).split())
    _failure(sentence)
    return cast(str, Failed(message=sentence, data=error))


def _failure(sentence: str) -> None:
    """The cause as an artifact, which the run's page has on its timeline; its log would have to be read to the end."""
    from prefect.artifacts import create_markdown_artifact
    from prefect.runtime import flow_run

    again = (
        "What was made is in the store: mend the cause, then Retry, or run it again with other settings; it goes on"
        " from there."
    )
    if flow_run.id:
        with contextlib.suppress(Exception):
            create_markdown_artifact(f"## Failed\n\n{sentence}\n\n{again}", key="failure", description=sentence)


class _OneSentence(logging.Filter):
    """Leaves the traceback out of the log where the error's sentence says it all, and Prefect's lesson on futures where
    a run is suspended, which ends the tasks that wait."""

    def __init__(self, kinds: tuple[type[BaseException], ...]) -> None:
        super().__init__()
        self.kinds = kinds

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], self.kinds):
            record.msg, record.args = " ".join(str(record.exc_info[1]).split()), ()
            record.exc_info = None
        return "Please wait for all submitted tasks to complete" not in record.getMessage()


def in_one_sentence(*kinds: type[BaseException]) -> None:
    """Have tasks that fail with these errors logged by their sentence alone."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(there, _OneSentence) for there in logger.filters):
            logger.addFilter(_OneSentence(kinds))


class Bar:
    """A stage's progress bar. Make and move it in the stage's task; where the server does not answer, it stays as it
    is."""

    def __init__(self, label: str) -> None:
        self._label, self._next, self._id = label, 0.0, cast(UUID | None, None)

    def move(self, step: int, total: int | None) -> None:
        """The stage did `step` of `total` steps."""
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
        except Exception:  # noqa: BLE001 - outside a run, or the server is gone: the job goes on, and the board shows it
            self._next = float("inf")


def tag(*tags: str) -> None:
    """Give the flow run tags, by which Prefect's pages find it, as kind:value; a tag of the same kind that the
    deployment gave goes."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        kinds = {text.partition(":")[0] for text in tags}
        run = UUID(str(flow_run.id))
        kept = {text for text in client.read_flow_run(run).tags if text.partition(":")[0] not in kinds}
        client.update_flow_run(run, tags=sorted({*kept, *tags}))


def link_mlflow(session: Session) -> None:
    """Link the flow run to its page in MLflow, once, as soon as a server has one; ask again later where it is not there
    yet."""
    link = session.tracker.link()
    if not link or not session.linking.acquire(blocking=False):
        return
    try:
        _link(link, "mlflow", f"{session.name} in MLflow")
    except Exception:  # noqa: BLE001 - no link is no reason to fail; the next stage asks again
        session.linking.release()


def _link(address: str, key: str, text: str) -> None:
    """A link on the flow run's page; Prefect's own function would hang it on the task that happens to make it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run

    made = ArtifactCreate(
        key=key, type="markdown", description=text, data=f"[{text}]({address})", flow_run_id=UUID(str(flow_run.id))
    )
    with get_client(sync_client=True) as client:
        client.create_artifact(made)


def publish(session: Session, folder: Path, report: Report, markdown: str) -> None:
    """A run's report on its page: words and table, the models, the pictures, and where each stage's output is."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    link_mlflow(session)
    with contextlib.suppress(Exception):
        create_markdown_artifact(
            markdown, key="report", description=f"Report of {report.name}; with pictures: {folder}/report.html"
        )
        names = (
            "model",
            "num_params",
            "bytes",
            "mmlu",
            "val_loss",
            "perplexity",
            "kl_teacher",
            "agreement_teacher",
            "tokens_per_second",
        )
        if report.rows:
            rows = [{name: getattr(row, name) for name in names} for row in report.rows]
            create_table_artifact(rows, key="models", description=f"Models of {report.name}")
        pictures = [
            f"### {path.stem}\n\n![{path.stem}]({_embedded(path)})" for path in sorted((folder / "plots").glob("*.svg"))
        ]
        if pictures:
            create_markdown_artifact("\n\n".join(pictures), key="pictures", description=f"Pictures of {report.name}")
        where = [
            {
                "stage": label,
                "state": "in the store already" if found else "built",
                "folder": os.fspath(folder / label),
                "key": artifact.key,
            }
            for label, (artifact, found) in session.stages.items()
        ]
        create_table_artifact(where, key="store", description=f"Where the stages of {report.name} are")


def _embedded(path: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _key(text: str) -> str:
    """A name that Prefect takes for an artifact's: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())
