"""The Docker engine of this machine as a backend, through NeMo-Run's DockerExecutor."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.cluster import Cluster, DockerCluster
from tasks.launch import nemo_run
from tasks.launch.backend import JobRequest, JobStatus


@dataclass(frozen=True)
class Docker:
    """The Docker engine of DOCKER_HOST or this machine's socket."""

    cluster: Cluster
    store: Path
    poll_seconds: float = 2.0

    def check(self, job: JobRequest) -> None:
        """Raise ValueError if no engine answers, or NeMo-Run's command line cannot hold the store's path."""
        import docker
        from docker.errors import DockerException

        if set(str(job.store)) & set("\"'$`: "):
            raise ValueError(f"the store {job.store} has quotes, colons or spaces in its path; choose another --store")
        try:
            docker.from_env().ping()
        except DockerException as error:
            raise ValueError(
                f"no Docker engine answers here ({str(error).splitlines()[0][:120]}); start it or set DOCKER_HOST"
            ) from error

    def submit(self, job: JobRequest) -> str:
        """Start a container; returns NeMo-Run's handle."""
        job.log.touch()  # mounted as a file, which must exist
        return nemo_run.submit(job, self.executor(job), name=_unique(job), stays=True)

    def find(self, name: str) -> str | None:
        """None: NeMo-Run's handle cannot be derived from a container; it is in the submission file."""
        return None

    def status(self, job: str, log: Path) -> JobStatus:
        """State from NeMo-Run, which queries the engine or reads the container's exit code."""
        state = nemo_run.state(self.store, job)
        if state in ("SUBMITTED", "PENDING"):
            return JobStatus(phase="queued", detail="its container is created")
        if state == "RUNNING":
            return JobStatus(phase="running", detail="in a container of this machine")
        if state in ("SUCCEEDED", "FAILED", "CANCELLED"):
            return JobStatus(
                phase="done" if state == "SUCCEEDED" else "failed", detail=f"its container ended ({state})"
            )
        return JobStatus(phase="lost", detail="the engine no longer knows its container")

    def cancel(self, job: str, *, hard: bool) -> None:
        """Remove the container, which kills its processes."""
        nemo_run.cancel(self.store, job)

    def close(self) -> None:
        """No connection to close."""

    def executor(self, job: JobRequest) -> Any:
        """NeMo-Run's executor for a job."""
        from nemo_run import DockerExecutor, Packager

        resources, settings = job.resources, self.cluster.docker or DockerCluster()
        # Its files must belong to the user who seals them.
        limits: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}
        if resources.memory_gb:
            limits["mem_limit"] = int(resources.memory_gb * 1e9)
        if resources.cpus:
            limits["nano_cpus"] = resources.cpus * 10**9
        return DockerExecutor(
            container_image=resources.image,
            ntasks_per_node=job.ranks,
            num_gpus=min(job.ranks, resources.gpus_per_node) or None,
            shm_size=f"{settings.shm_gb:g}g",
            volumes=[
                f"{job.store}:{job.store}",
                f"{job.log}:/nemo_run/log_{_unique(job)}-{job.stage}.out",
                *resources.mounts,
            ],
            env_vars={"HOME": "/tmp"} | job.environment,
            additional_kwargs=limits,
            launcher=nemo_run.torchrun(job),
            packager=Packager(),
        )


def _unique(job: JobRequest) -> str:
    """A container name that is unique per attempt, because removed containers may block their names for a while."""
    return f"{job.name}-{int(time.time())}"
