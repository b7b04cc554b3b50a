"""The Docker engine of this machine as a site: NeMo-Run's DockerExecutor starts, asks and removes containers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.cluster import Cluster, DockerPlace
from tasks.launch import nemo_run as experiment
from tasks.launch.backend import Job, Seen


@dataclass(frozen=True)
class Docker:
    """The Docker engine that DOCKER_HOST or this machine's socket names."""

    cluster: Cluster
    store: Path
    poll_seconds: float = 2.0

    def check(self, job: Job) -> None:
        """An engine answers, and NeMo-Run's command line survives the store's path."""
        import docker
        from docker.errors import DockerException

        if set(str(job.store)) & set("\"'$`: "):
            raise ValueError(
                f"the store {job.store} has quotes, colons or spaces in its path; choose another with --store"
            )
        try:
            docker.from_env().ping()
        except DockerException as error:
            raise ValueError(
                f"no Docker engine answers here ({str(error).splitlines()[0][:120]}); start it or set DOCKER_HOST"
            ) from error

    def submit(self, job: Job) -> str:
        """Start a container; returns NeMo-Run's handle."""
        job.log.touch()  # mounted as a file, which must be there
        return experiment.submit(job, self.executor(job), name=_unique(job), stays=True)

    def find(self, name: str) -> str | None:
        """NeMo-Run's handle cannot be made from a container; the record beside the work folder has it."""
        return None

    def look(self, job: str, log: Path) -> Seen:
        """Ask NeMo-Run, which asks the engine, or reads the exit code that the container left."""
        state = experiment.state(self.store, job)
        if state in ("SUBMITTED", "PENDING"):
            return Seen(phase="queued", told="its container is created")
        if state == "RUNNING":
            return Seen(phase="running", told="in a container of this machine")
        if state in ("SUCCEEDED", "FAILED", "CANCELLED"):
            return Seen(phase="done" if state == "SUCCEEDED" else "failed", told=f"its container ended ({state})")
        return Seen(phase="lost", told="the engine does not know its container any more")

    def cancel(self, job: str, *, hard: bool) -> None:
        """Remove the container: the engine kills what is in it."""
        experiment.cancel(self.store, job)

    def close(self) -> None:
        """Nothing stays open."""

    def executor(self, job: Job) -> Any:
        """NeMo-Run's executor for a job."""
        from nemo_run import DockerExecutor, Packager

        place, settings = job.place, self.cluster.docker or DockerPlace()
        limits: dict[str, Any] = {"user": f"{os.getuid()}:{os.getgid()}"}  # what it writes belongs to whoever seals it
        if place.memory_gb:
            limits["mem_limit"] = int(place.memory_gb * 1e9)
        if place.cpus:
            limits["nano_cpus"] = place.cpus * 10**9
        return DockerExecutor(
            container_image=place.image,
            ntasks_per_node=job.ranks,
            num_gpus=min(job.ranks, place.gpus_per_node) or None,
            shm_size=f"{settings.shm_gb:g}g",
            volumes=[
                f"{job.store}:{job.store}",
                f"{job.log}:/nemo_run/log_{_unique(job)}-{job.stage}.out",
                *place.mounts,
            ],
            env_vars={"HOME": "/tmp"} | job.environment,
            additional_kwargs=limits,
            launcher=experiment.torchrun(job),
            packager=Packager(),
        )


def _unique(job: Job) -> str:
    """A container's name for this try of a job: the engine keeps the names of those it has not removed yet."""
    return f"{job.name}-{int(time.time())}"
