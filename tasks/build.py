"""Builds a stage: look up its artifact, or run its job in a work folder, check, seal and link the result."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from conf.base import StageConfig
from conf.parallel import Parallel
from conf.spec import Record, Spec
from conf.stages import CURATE
from conf.stages.data import DataConfig
from tasks.launch import submission
from tasks.launch.errors import interrupted
from tasks.launch.local import TORCHRUN
from tasks.launch.retry import Attempts
from tasks.monitor import prefect_pages
from tasks.monitor.listener import StageListener
from tasks.session import Session, current
from tasks.store.store import Artifact, StoreError, key_of

SCRATCH = ("checkpoints", "heartbeats", "shards", TORCHRUN)
"""Folders of a running job that are not part of its artifact."""

VERSIONED = (
    "torch",
    "megatron-core",
    "nvidia-modelopt",
    "transformers",
    "tokenizers",
    "datasets",
    "lm_eval",
    "prefect",
    "mlflow",
)


def build(label: str, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact:
    """The sealed artifact of a stage, from the store or built by its job. Raises JobFailed or StoreError; nothing is
    sealed then."""
    session, stage = current.get(), config.stage
    key = key_of(stage, config, {role: artifact.key for role, artifact in inputs.items()})
    store, board = session.store, session.board
    artifact = store.find(stage, key)
    state = "cached"
    if artifact is None:
        board.set(label, "waiting")
        with store.lock(stage, key):  # another process may have built it while this one waited
            artifact = store.find(stage, key)
            if artifact is None:
                state = "done"
                try:
                    artifact = _make(session, label, key, config, inputs)
                except BaseException as error:
                    stopped = interrupted(error)
                    board.set(label, "stopped" if stopped else "failed")
                    session.tracker.failed(label, " ".join(str(error).split()), stopped=stopped)
                    raise
    _link(session, label, artifact)
    board.set(label, "cached" if state == "cached" else "done")
    session.tracker.stage(label, artifact, cached=state == "cached")
    session.stages[label] = artifact, state == "cached"
    prefect_pages.link_mlflow(session)
    return prefect_pages.cached(artifact) if state == "cached" else artifact


def _make(session: Session, label: str, key: str, config: StageConfig, inputs: dict[str, Artifact]) -> Artifact:
    stage = config.stage
    work, listener = session.store.work(stage, key), StageListener(session.board, label)
    try:
        work.mkdir(parents=True, exist_ok=True)
        spec = Spec(
            stage=stage,
            key=key,
            config=config.model_dump(mode="json"),
            inputs={role: artifact.path for role, artifact in inputs.items()},
            output=str(work),
        )
        attempts = Attempts(
            type(config), work, session.cluster, lambda number, reason: _again(session, listener, label, number, reason)
        )

        def submit(config: StageConfig, begin: Callable[[], None]) -> None:
            parallel = getattr(config, "parallel", Parallel(threads=getattr(config, "workers", None)))

            def running() -> None:
                begin()
                session.board.set(label, "running")
                session.tracker.begin(label, stage, key, work)

            job_spec = spec.model_copy(update={"config": config.model_dump(mode="json")})
            if isinstance(config, DataConfig) and config.ranks > 1 and not _begun(job_spec):
                ranks = job_spec.model_copy(update={"stage": CURATE})
                session.launcher.run(ranks, parallel, listener.follow, running, listener)
                session.launcher.run(job_spec, parallel, listener.follow, _nothing, listener)
            else:
                session.launcher.run(job_spec, parallel, listener.follow, running, listener)

        config = attempts.run(config, submit)
        missing = [name for name in config.writes if not (work / name).is_file()]
        assert not missing, f"{stage} succeeded but did not write {missing}"
        return session.store.seal(_record(session, key, config, inputs, attempts), ignore=SCRATCH)
    except OSError as error:
        raise StoreError(
            f"{label}: {error.strerror} ({error.filename or session.store.root}); free space or choose another --store,"
            " then run again to continue"
        ) from error
    finally:
        listener.ended()


def _nothing() -> None:
    """The stage runs already."""


def _begun(spec: Spec) -> bool:
    """Whether a killed flow left the stage's own job running, so that its ranks have ended."""
    submitted = submission.read(spec.output)
    return submitted is not None and submitted.stage == spec.stage


def _record(session: Session, key: str, config: StageConfig, inputs: dict[str, Artifact], attempts: Attempts) -> Record:
    """The record to seal a finished job with; the store adds its files."""
    return Record(
        stage=config.stage,
        key=key,
        revision=config.revision,
        config=config.model_dump(mode="json"),
        hashed=config.identity(),
        inputs={role: artifact.key for role, artifact in inputs.items()},
        files={},
        seconds=round(attempts.seconds, 3),
        created=datetime.now(UTC).isoformat(),
        versions=versions(),
        commit=commit(),
        run=session.tracker.ids(),
        attempts=attempts.all,
    )


def _again(session: Session, listener: StageListener, label: str, number: int, reason: str) -> None:
    """Report a retry on the board, in the Prefect log and in MLflow."""
    session.board.set(label, "waiting")
    listener.state(f"attempt {number}: {reason}")
    session.tracker.attempt(label, number, reason)


def _link(session: Session, label: str, artifact: Artifact) -> None:
    """Link the artifact under runs/<name>/<label>, atomically, as another flow of the same name may do so
    concurrently."""
    folder = session.store.root / "runs" / session.name
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{label}-{os.getpid()}-{time.monotonic_ns()}"
    partial.symlink_to(os.path.relpath(artifact.path, folder))
    partial.rename(folder / label)


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that determine a result."""
    installed = {}
    for name in VERSIONED:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@cache
def commit() -> str | None:
    """The git commit of this checkout, marked if it has changes; None outside a checkout."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.stdout.strip() or None
