"""Submits jobs through NeMo-Run: a job becomes a `run.Script` in a `run.Experiment` with an executor for the kind of
cluster.

NeMo-Run is imported only when needed, because it takes seconds and imports torch.
"""

from __future__ import annotations

import contextvars
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.launch.backend import JobRequest, SubmitError

if TYPE_CHECKING:
    from nemo_run.core.execution.base import Executor

RENDEZVOUS_PORT = 29400
_importing = threading.Lock()
_staying: dict[str, Any] = {}


def home(store: Path) -> Path:
    """NeMo-Run's folder for scripts, logs and handles: in the store, which nodes and later flows can read."""
    return store / ".work" / "nemo-run"


def prepare(store: Path) -> None:
    """Import NeMo-Run with its home in the store, once per process."""
    with _importing:
        os.environ.setdefault("NEMORUN_HOME", str(home(store)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation warnings of its imports
            import nemo_run  # noqa: F401


def command(job: JobRequest) -> Any:
    """The job as a NeMo-Run script: `python -m jobs.<stage> --spec spec.json`, under torchrun if the executor's
    launcher is."""
    import nemo_run

    return nemo_run.Script(path=f"jobs.{job.stage}", m=True, entrypoint="python", args=["--spec", str(job.spec)])


def torchrun(job: JobRequest, port: int = RENDEZVOUS_PORT) -> Any:
    """NeMo-Run's torchrun launcher for a job with several ranks, else None."""
    from nemo_run.core.execution.launcher import Torchrun

    return Torchrun(rdzv_port=port) if job.nodes * job.ranks > 1 else None


def submit(
    job: JobRequest, executor: Executor, *, name: str | None = None, script: Path | None = None, stays: bool = False
) -> str:
    """Submit a job without waiting for it; returns NeMo-Run's handle `scheduler://session/id`.

    `script` runs instead of the job and starts it. `stays`: keep the experiment open, because the executor ends its
    jobs with it."""
    return contextvars.copy_context().run(_submit, job, executor, name, script, stays)


def _submit(job: JobRequest, executor: Executor, name: str | None, script: Path | None, stays: bool) -> str:
    experiment = _experiment(job, executor, name)
    experiment.__enter__()  # left open if the end of the experiment would end the job
    try:
        experiment.add(_task(job, script), executor=executor, name=job.stage)
        if tunnel := getattr(executor, "tunnel", None):
            experiment.jobs[0].executor.tunnel.session = tunnel.session  # its copy of the executor has no connection
        experiment.run(detach=True)
    except Exception as error:
        raise SubmitError(_message(error)) from error
    finally:
        if not stays:
            experiment.detach = True  # some executors do not set it, and the exit would wait for the job
            experiment.__exit__(None, None, None)
    handle = str(experiment.jobs[0].handle)
    if stays:
        _staying[handle] = experiment
    return handle


def state(store: Path, handle: str) -> str:
    """NeMo-Run's state of a job: SUBMITTED, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED or UNKNOWN."""
    prepare(store)
    from nemo_run.run.torchx_backend.runner import get_runner

    status = get_runner().status(handle)
    return str(status.state.name) if status else "UNKNOWN"


def cancel(store: Path, handle: str) -> None:
    """Cancel a job through NeMo-Run."""
    prepare(store)
    from nemo_run.run.torchx_backend.runner import get_runner

    get_runner().cancel(handle)


def request(job: JobRequest, executor: Executor, *, name: str | None = None, script: Path | None = None) -> Any:
    """NeMo-Run's request as a dry run, without a cluster."""
    with _experiment(job, executor, name) as experiment:
        experiment.add(_task(job, script), executor=executor, name=job.stage)
        experiment.dryrun(log=False, delete_exp_dir=False)
        return experiment.jobs[0]._dryrun_info.request


def _task(job: JobRequest, script: Path | None) -> Any:
    import nemo_run

    return nemo_run.Script(path=str(script)) if script else command(job)


def _experiment(job: JobRequest, executor: Executor, name: str | None) -> Any:
    import nemo_run
    from nemo_run.core.frontend.console.api import CONSOLE

    CONSOLE.quiet = True
    return nemo_run.Experiment(
        job.name,
        executor=executor,
        id=name,
        base_dir=str(home(job.store)),
        clean_mode=True,
        enable_goodbye_message=False,
        skip_status_at_exit=True,
        serialize_metadata_for_scripts=False,
        log_level="ERROR",
    )


def _message(error: Exception) -> str:
    """The last line of the cluster command's output, else the first line of the error."""
    result = getattr(error, "result", None)
    lines = (str(getattr(result, "stderr", "")) or str(error)).strip().splitlines()
    return lines[-1 if result else 0].strip() if lines else type(error).__name__
