"""What the states of pods are taken for, and what a job asks of Kubernetes, without an API server."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import Cluster
from conf.parallel import Parallel
from tasks.launch.backend import JobRequest
from tasks.launch.kubernetes import Kubernetes, _cause, _script, _waiting


def pod(**status: Any) -> Any:
    """A pod as Kubernetes' client returns it; what it does not know yet is None."""
    known = {"conditions": None, "container_statuses": None, "reason": None, "phase": "Pending"}
    return SimpleNamespace(status=SimpleNamespace(**known | status))


def condition(kind: str, reason: str, status: str = "True", message: str = "") -> Any:
    return SimpleNamespace(type=kind, reason=reason, status=status, message=message)


def container(waiting: Any = None, terminated: Any = None, last: Any = None) -> Any:
    state = SimpleNamespace(waiting=waiting, terminated=terminated)
    return SimpleNamespace(state=state, last_state=last, image="worker:1")


def ended(reason: str) -> Any:
    return SimpleNamespace(reason=reason)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("PreemptionByScheduler", "preempted"),
        ("PreemptionByKueue", "preempted"),
        ("DeletionByTaintManager", "node"),
        ("EvictionByEvictionAPI", "node"),
        ("DeletionByPodGC", "node"),
        ("TerminationByKubelet", "node"),
    ],
)
def test_a_disruption_is_a_cause(reason: str, cause: str) -> None:
    assert _cause([pod(), pod(conditions=[condition("DisruptionTarget", reason)])]) == (cause, reason)


@pytest.mark.parametrize(("kind", "reason"), [("DisruptionTarget", "SomethingNew"), ("Ready", "PreemptionByScheduler")])
def test_other_conditions_are_no_cause(kind: str, reason: str) -> None:
    assert _cause([pod(conditions=[condition(kind, reason)])]) == (None, "")


def test_memory_counts_now_and_before_a_restart() -> None:
    before = SimpleNamespace(terminated=ended("OOMKilled"))
    for status in (container(terminated=ended("OOMKilled")), container(last=before)):
        assert _cause([pod(container_statuses=[container(), status])]) == ("memory", "OOMKilled")
    assert _cause([pod(container_statuses=[container(terminated=ended("Error"))])]) == (None, "")


@pytest.mark.parametrize(("reason", "cause"), [("Evicted", "node"), ("DeadlineExceeded", "time"), ("Error", None)])
def test_the_reason_of_a_pod_is_a_cause(reason: str, cause: str | None) -> None:
    assert _cause([pod(reason=reason)]) == (cause, reason if cause else "")


@pytest.mark.parametrize(
    "reason",
    ["InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "ErrImagePull", "ImagePullBackOff"],
)
def test_what_can_never_start_is_told(reason: str) -> None:
    for message, told in (("no such image", "no such image"), (None, "worker:1")):
        waiting = SimpleNamespace(reason=reason, message=message)
        assert _waiting([pod(), pod(container_statuses=[container(waiting)])]) == (True, f"{reason}: {told}")


def test_a_container_that_is_made_is_waited_for() -> None:
    waiting = SimpleNamespace(reason="ContainerCreating", message=None)
    assert _waiting([pod(container_statuses=[container(waiting)])]) == (False, "its pods are starting")
    assert _waiting([]) == (False, "its pods are being created")


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        ("PodScheduled", "False", "Unschedulable: no GPU"),
        ("PodScheduled", "True", "its pods are starting"),
        ("Ready", "False", "its pods are starting"),
    ],
)
def test_a_pod_without_a_place_says_why(kind: str, status: str, told: str) -> None:
    assert _waiting([pod(conditions=[condition(kind, "Unschedulable", status, "no GPU")])]) == (False, told)


def cluster_with(store: Path, **defaults: Any) -> Cluster:
    volumes = [{"claim": "texts", "path": "/texts", "read_only": True}, {"claim": "all", "path": str(store)}]
    settings = {"namespace": "team", "volumes": volumes, "poll_seconds": 7.5}
    return Cluster.model_validate(
        {"kind": "kubernetes", "kubernetes": settings, "defaults": {"image": "worker:1"} | defaults}
    )


def job_of(cluster: Cluster, store: Path, ranks: int) -> JobRequest:
    resources = cluster.resources("distill")
    nodes, each = resources.spread(Parallel(processes=ranks))
    folder = store / "it's work"
    folder.mkdir(parents=True)
    return JobRequest(
        name="imbik-1-distill",
        stage="distill",
        spec=folder / "spec.json",
        store=store,
        resources=resources,
        nodes=nodes,
        ranks=each,
    )


def test_the_store_must_be_on_a_writable_volume(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cluster = cluster_with(store)
    job = job_of(cluster, store / "inner", 1)
    backend = Kubernetes(cluster, store)
    backend.check(job)
    assert backend.poll_seconds == 7.5
    for place in ("/texts/store", f"{store}-2"):
        with pytest.raises(ValueError, match=rf"^the store {place} is on no writable volume .* \({store}\); choose"):
            backend.check(JobRequest(**{**vars(job), "store": Path(place)}))


def test_without_a_writable_volume_none_is_named(tmp_path: Path) -> None:
    cluster = Cluster.model_validate(
        {
            "kind": "kubernetes",
            "kubernetes": {"volumes": [{"claim": "c", "path": str(tmp_path), "read_only": True}]},
            "defaults": {"image": "worker:1"},
        }
    )
    with pytest.raises(ValueError, match=r"\(none\)"):
        Kubernetes(cluster, tmp_path).check(job_of(cluster, tmp_path, 1))


@pytest.mark.parametrize(
    ("defaults", "ranks", "wanted"),
    [
        ({}, 2, (1, 2, None, None, None)),
        ({"gpus_per_node": 8}, 4, (1, 4, 4, None, None)),
        ({"gpus_per_node": 8}, 16, (2, 8, 8, None, None)),
        ({"memory_gb": 1.5, "cpus": 6}, 1, (1, 1, None, "6", "1500M")),
    ],
)
def test_a_job_asks_for_its_resources(
    defaults: dict[str, Any], ranks: int, wanted: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    executor = SimpleNamespace(KubeflowExecutor=lambda **arguments: asked.update(arguments))
    monkeypatch.setitem(sys.modules, "nemo_run.core.execution.kubeflow", executor)
    cluster = cluster_with(tmp_path, queue="gold", **defaults)
    Kubernetes(cluster, tmp_path).executor(job_of(cluster, tmp_path, ranks))
    names = ("num_nodes", "nprocs_per_node", "gpus_per_node", "cpu_requests", "memory_requests")
    assert tuple(asked[name] for name in names) == wanted
    assert asked["memory_limits"] == asked["memory_requests"]
    assert asked["labels"] == {"imbik/job": "imbik-1-distill", "kueue.x-k8s.io/queue-name": "gold"}
    assert asked["volume_mounts"] == [
        {"name": "volume-0", "mountPath": "/texts", "readOnly": True},
        {"name": "volume-1", "mountPath": str(tmp_path), "readOnly": False},
    ]
    assert [each["persistentVolumeClaim"]["claimName"] for each in asked["volumes"]] == ["texts", "all"]
    assert (asked["namespace"], asked["env_list"]) == ("team", [])


def test_a_pod_script_quotes_its_paths(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path)
    job = job_of(cluster, tmp_path, 1)
    first, choose, last = _script(job).read_text().splitlines()
    quoted = str(tmp_path) + "/it'\"'\"'s work/"
    assert first == "#!/bin/bash"
    assert choose.startswith(f"log='{quoted}job.log'; [ \"${{PET_NODE_RANK:-0}}\" = 0 ] || log='{quoted}script.log'  #")
    assert last == f"exec torchrun --tee 3 -m jobs.distill --spec '{quoted}spec.json' >>\"$log\" 2>&1"


def test_a_pod_of_an_array_is_the_rank_of_its_index(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path)
    job = JobRequest(**{**vars(job_of(cluster, tmp_path, 1)), "array": 2})
    _, rank, last = _script(job).read_text().splitlines()
    assert rank == "export IMBIK_ARRAY_RANK=${JOB_COMPLETION_INDEX:?}"
    quoted = str(tmp_path) + "/it'\"'\"'s work/"
    assert last == f"exec python -m jobs.distill --spec '{quoted}spec.json' >>'{quoted}job.log' 2>&1"


@pytest.mark.parametrize(
    ("state", "pods", "found"),
    [
        ("RUNNING", [("n2", "Running"), ("n1", "Pending")], ("running", "on n1, n2", None)),
        ("RUNNING", [(None, "Pending")], ("queued", "queued (its pods are starting)", None)),
        ("SUCCEEDED", [("n1", "Succeeded")], ("done", "ended on n1", None)),
        ("FAILED", [("n1", "Failed")], ("failed", "Kubernetes reports Failed", None)),
        ("PENDING", [], ("queued", "queued (its pods are being created)", None)),
        (None, [], ("lost", "Kubernetes no longer knows its TrainJob", None)),
    ],
)
def test_a_jobs_state_is_that_of_its_pods(
    state: str | None, pods: Any, found: tuple[str, str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = SimpleNamespace(RUNNING="RUNNING", SUCCEEDED="SUCCEEDED", FAILED="FAILED")
    monkeypatch.setitem(
        sys.modules, "nemo_run.core.execution.kubeflow", SimpleNamespace(KubeflowJobState=states, KubeflowExecutor=None)
    )
    there = [pod(phase=phase) for _, phase in pods]
    for one, (node, _) in zip(there, pods, strict=True):
        one.spec = SimpleNamespace(node_name=node)
    monkeypatch.setattr(Kubernetes, "_api", lambda self: SimpleNamespace(status=lambda job: state))
    monkeypatch.setattr(Kubernetes, "_pods", lambda self, job: there)
    status = Kubernetes(cluster_with(tmp_path), tmp_path).status("job", tmp_path / "log")
    assert (status.phase, status.detail, status.cause) == found
