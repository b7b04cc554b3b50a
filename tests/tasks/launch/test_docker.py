"""What a job asks of the Docker engine, without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import Cluster, load_cluster
from conf.parallel import Parallel
from tasks.launch import docker, nemo_run
from tasks.launch.backend import JobRequest
from tasks.launch.docker import Docker


def job_of(cluster: Cluster, store: Path, ranks: int) -> JobRequest:
    resources = cluster.resources("distill")
    nodes, each = resources.spread(Parallel(processes=ranks))
    spec = store / "work" / "spec.json"
    return JobRequest(
        name="imbik-1-distill", stage="distill", spec=spec, store=store, resources=resources, nodes=nodes, ranks=each
    )


@pytest.mark.parametrize(
    ("defaults", "ranks", "wanted"),
    [
        ({}, 2, (2, None, None, None)),
        ({"gpus_per_node": 8}, 4, (4, 4, None, None)),
        ({"gpus_per_node": 2, "memory_gb": 1.5, "cpus": 6}, 1, (1, 1, 1_500_000_000, 6_000_000_000)),
    ],
)
def test_a_container_gets_its_resources(
    defaults: dict[str, Any], ranks: int, wanted: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    module = SimpleNamespace(DockerExecutor=lambda **arguments: asked.update(arguments), Packager=lambda: None)
    monkeypatch.setitem(sys.modules, "nemo_run", module)
    monkeypatch.setattr(docker.nemo_run, "torchrun", lambda job: None)
    cluster = Cluster.model_validate(
        {"kind": "docker", "docker": {"shm_gb": 2.5}, "defaults": {"image": "worker:1"} | defaults}
    )
    Docker(cluster, tmp_path).executor(job_of(cluster, tmp_path, ranks))
    limits = asked["additional_kwargs"]
    found = (asked["ntasks_per_node"], asked["num_gpus"], limits.get("mem_limit"), limits.get("nano_cpus"))
    assert found == wanted
    assert (asked["shm_size"], asked["container_image"]) == ("2.5g", "worker:1")
    assert asked["volumes"][0] == f"{tmp_path}:{tmp_path}"


@pytest.mark.parametrize(("nodes", "ranks", "port"), [(1, 1, None), (1, 2, 29_400), (2, 1, 29_400)])
def test_several_ranks_meet_on_a_port(
    nodes: int, ranks: int, port: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(Torchrun=lambda rdzv_port: rdzv_port)
    monkeypatch.setitem(sys.modules, "nemo_run.core.execution.launcher", module)
    cluster = Cluster.model_validate({"kind": "docker", "defaults": {"image": "worker:1"}})
    job = JobRequest(**(vars(job_of(cluster, tmp_path, 1)) | {"nodes": nodes, "ranks": ranks}))
    assert nemo_run.torchrun(job) == port


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("SUBMITTED", "queued"),
        ("PENDING", "queued"),
        ("RUNNING", "running"),
        ("SUCCEEDED", "done"),
        ("FAILED", "failed"),
        ("CANCELLED", "failed"),
        ("UNKNOWN", "lost"),
    ],
)
def test_a_state_of_nemo_run(state: str, phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker.nemo_run, "state", lambda store, job: state)
    assert Docker(load_cluster("docker"), tmp_path).status("handle", tmp_path / "job.log").phase == phase


class Failed(Exception):
    """An error of a command on a login node, with what it printed."""

    def __init__(self, text: str, stderr: str | None = None) -> None:
        super().__init__(text)
        if stderr is not None:
            self.result = SimpleNamespace(stderr=stderr)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Failed("first\nlast"), "first"),
        (Failed("a command failed", "warning\nsbatch: error: no account\n"), "sbatch: error: no account"),
        (Failed("first\nlast", ""), "last"),
        (Failed(""), "Failed"),
    ],
)
def test_the_line_that_says_why_is_told(error: Exception, message: str) -> None:
    assert nemo_run._message(error) == message
