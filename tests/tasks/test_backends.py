"""What is asked of Docker, Kubernetes and Slurm through NeMo-Run, against approved requests, and what their answers are
taken for.

Where a request changes on purpose: IMBIK_APPROVE=1 pytest tests/test_sites.py writes the new ones, to be read in the
commit."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from conf.cluster import Cluster, load_cluster
from conf.parallel import Parallel
from tasks.launch import nemo_run as experiment
from tasks.launch.backend import JobRequest, Unreachable
from tasks.launch.docker import Docker
from tasks.launch.kubernetes import Kubernetes
from tasks.launch.protocol import limits
from tasks.launch.slurm import Slurm
from tests.fixtures.web import serving

APPROVED = Path(__file__).parents[1] / "approved"
SECRET = "hf_planted_secret"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store in which NeMo-Run is at home."""
    store = tmp_path_factory.mktemp("sites") / "store"
    before = os.environ.get("NEMORUN_HOME")
    os.environ["NEMORUN_HOME"] = str(experiment.home(store))
    os.environ["HF_TOKEN"] = SECRET
    stdin = sys.stdin
    with Path(os.devnull).open() as nothing:
        sys.stdin = nothing  # NeMo-Run's shell commands read it, which pytest forbids
        experiment.prepare(store)
        yield store
    sys.stdin = stdin
    del os.environ["HF_TOKEN"]
    os.environ.pop("NEMORUN_HOME")
    if before:
        os.environ["NEMORUN_HOME"] = before


def job_of(cluster: Cluster, store: Path, stage: str, parallel: Parallel, array: int = 1) -> JobRequest:
    resources = cluster.resources(stage)
    nodes, ranks = resources.spread(parallel)
    output = store / ".work" / f"{stage}-0123"
    output.mkdir(parents=True, exist_ok=True)
    spec = output / "spec.json"
    variables = {"OMP_NUM_THREADS": "1"} | limits(cluster, stage)
    return JobRequest(
        name=f"imbik-0123-{stage}",
        stage=stage,
        spec=spec,
        store=store,
        resources=resources,
        nodes=nodes,
        ranks=ranks,
        array=array,
        environment=variables,
    )


def approved(name: str, text: str, store: Path) -> None:
    """`text` is what was approved, whatever is particular to this run left out."""
    for pattern, resources in (
        (re.escape(str(store)), "/store"),
        (r"(imbik-0123-\w+)[_-]\d{10,}", r"\1-TIME"),
        (r"(--rdzv-endpoint \S+:)\d+", r"\g<1>PORT"),
        (r"--rdzv-id \d+", "--rdzv-id ID"),
        (r"\"(distill|curate)-[a-z0-9]{12,14}\b", r'"\1-RANDOM'),
        (re.escape(str(Path(os.__file__).parents[2])), "/python"),
        (r"PATH='?[^:\n]*:\"", 'PATH=/venv/bin:"'),
        (r"PYTHONPATH=\S+", "PYTHONPATH=/code"),
        (r'"Hostname": "[^"]+"', '"Hostname": "NAME"'),
        (r'"User": "\d+:\d+"', '"User": "ME"'),
        (r"(imbik-0123-(?:distill|curate)-)[a-z0-9]{6}\b", r"\1RANDOM"),
    ):
        text = re.sub(pattern, resources, text)
    assert SECRET not in text
    file = APPROVED / name
    if os.environ.get("IMBIK_APPROVE"):
        file.write_text(text)
    assert text == file.read_text(), (
        f"{name} differs; read the difference, and approve it with IMBIK_APPROVE=1 if it is meant"
    )


def planted(store: Path) -> list[Path]:
    """Files under the store that hold the secret."""
    return [path for path in store.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("kind", ["bare", "container"])
def test_what_slurm_is_asked(kind: str, store: Path) -> None:
    overrides = [
        "secrets=[HF_TOKEN]",
        "defaults.account=team",
        "defaults.queue=h100",
        "defaults.environment={NCCL_DEBUG: a b$c'd}",
    ]
    overrides += ["defaults.memory_gb=64", "defaults.cpus=16", "hang_seconds=900"]
    if kind == "container":
        overrides += [
            "defaults.image=nvcr.io#nvidia/nemo:25.09",
            "defaults.mounts=[/models:/models:ro]",
            "slurm={exclusive: true}",
        ]
    cluster = load_cluster("slurm", overrides)
    ranks = Parallel(processes=16, tensor=8) if kind == "bare" else Parallel()
    job = job_of(cluster, store, "distill", ranks)
    request = experiment.request(job, Slurm(cluster, store).executor(job))
    approved(f"slurm-{kind}.sh", request.materialize(), store)
    assert planted(store) == []


@pytest.mark.parametrize("kind", ["bare", "container"])
def test_ranks_of_a_curation_are_an_array_of_slurm(kind: str, store: Path) -> None:
    more = ["stages.curate={cpus: 4}"]
    more += ["defaults.image=nvcr.io#nvidia/nemo:25.09"] if kind == "container" else []
    cluster = load_cluster("slurm", more)
    job = job_of(cluster, store, "curate", Parallel(), 3)
    script = experiment.request(job, Slurm(cluster, store).executor(job)).materialize()
    assert "#SBATCH --array=0-2\n" in script and "\nexport IMBIK_ARRAY_RANK=$SLURM_ARRAY_TASK_ID\n" in script
    assert ("IMBIK_ARRAY_RANK," in script) is (kind == "container")
    if kind == "bare":
        approved("slurm-array.sh", script, store)


def test_a_store_that_a_script_cannot_hold_is_refused(store: Path, tmp_path: Path) -> None:
    cluster = load_cluster("slurm")
    with pytest.raises(ValueError, match="choose another --store"):
        Slurm(cluster, tmp_path).check(job_of(cluster, tmp_path / "a store", "data", Parallel()))
    cluster = load_cluster("kubernetes")
    with pytest.raises(ValueError, match=r"on no writable volume of the cluster file \(/store\)"):
        Kubernetes(cluster, tmp_path).check(job_of(cluster, tmp_path, "data", Parallel()))


def test_unreachable_slurm_ends_no_job(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue, as good as no controller
    backend, log = Slurm(load_cluster("slurm"), store), tmp_path / "job.log"
    with pytest.raises(Unreachable, match="squeue"):
        backend.status("17", log)
    for code, phase in ((0, "done"), (1, "failed")):
        (tmp_path / "script.log").write_text(f"+ echo\njob exited with code {code}\n")
        assert backend.status("17", log).phase == phase


class Engine:
    """As much of Docker's API as starting, asking and removing a container takes."""

    def __init__(self) -> None:
        self.created: dict[str, Any] = {}
        self.status = "running"

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path = re.sub(r"^/v[\d.]+", "", path)
        if path == "/version":
            return 200, {"ApiVersion": "1.44", "Version": "25"}
        if path in ("/networks/create", "/networks/n1"):
            return 201, {"Id": "n1", "Name": "nemo_run"}
        if path == "/containers/create":
            self.created = body
            return 201, {"Id": "c1", "Warnings": []}
        if path == "/containers/json":
            return 200, [{"Id": "c1"}] if self.created else []
        if path == "/containers/c1/json":
            state = {"Status": self.status, "Running": self.status == "running", "ExitCode": 0}
            return 200, {"Id": "c1", "Name": "/c1", "State": state, "Config": {"Labels": {}}}
        if path == "/containers/c1" and method == "DELETE":
            self.created = {}
            return 204, None
        known = path in ("/_ping", "/images/create") or path.endswith("/start")
        return (201 if method == "POST" else 200, {}) if known else (404, {"message": f"no {path}"})


def test_what_docker_is_asked_and_what_it_answers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = load_cluster("docker", ["defaults.gpus_per_node=2", "defaults.memory_gb=64", "defaults.cpus=8"])
    job, engine = job_of(cluster, store, "distill", Parallel(processes=2)), Engine()
    with serving(engine) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        backend = Docker(cluster, store)
        backend.check(job)
        handle = backend.submit(job)
        approved("docker.json", json.dumps(engine.created, indent=2, sort_keys=True) + "\n", store)
        assert backend.status(handle, job.log).phase == "running"
        backend.cancel(handle, hard=False)
        assert engine.created == {}
        assert backend.status(handle, job.log).phase == "failed"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match="no Docker engine answers"):
        backend.check(job)


class Api:
    """As much of Kubernetes' API as TrainJobs and their pods take."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.status: dict[str, Any] = {}
        self.pods: list[dict[str, Any]] = []

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        name = path.rpartition("/trainjobs/")[2]
        if path.endswith("/trainjobs"):
            if method == "POST":
                self.jobs[body["metadata"]["name"]] = body
                return 201, body
            return 200, {"items": list(self.jobs.values())}
        if path.endswith("/pods"):
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods}
        if name not in self.jobs:
            return 404, {"message": "not found"}
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        return 200, self.jobs[name] | {"status": self.status}

    def pod(self, phase: str, **status: Any) -> None:
        """The job's only pod."""
        self.pods = [
            {
                "metadata": {"name": "p0"},
                "spec": {"nodeName": "gpu-7", "containers": []},
                "status": {"phase": phase} | status,
            }
        ]


KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "c",
    "users": [{"name": "u", "user": {}}],
}


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """The pod that Kubeflow's trainer makes of a TrainJob: the runtime's container `node` with the trainer's settings
    and the overrides over it."""
    trainer, (override,) = job["spec"]["trainer"], job["spec"]["podTemplateOverrides"]
    own = {
        "image": trainer["image"],
        "command": trainer["command"],
        "env": trainer["env"],
        "resources": trainer["resourcesPerNode"],
    }
    (mounting,) = override["spec"]["containers"]
    spec = override["spec"] | {"containers": [mounting | own]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": job["metadata"], "spec": spec}


def container(**state: Any) -> dict[str, Any]:
    return {"name": "node", "image": "imbik-worker", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def test_what_kubernetes_is_asked_and_what_it_answers(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [
        "secrets=[HF_TOKEN]",
        "kubernetes.secret=imbik",
        f"kubernetes.volumes=[{{claim: imbik-store, path: {store}}}]",
    ]
    overrides += [
        "defaults.queue=team",
        "defaults.memory_gb=512",
        "kubernetes.tolerations=[{key: gpu, operator: Exists}]",
    ]
    cluster, api = load_cluster("kubernetes", overrides), Api()
    job = job_of(cluster, store, "distill", Parallel(processes=16))
    with serving(api) as port:
        config = KUBECONFIG | {"clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}]}
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        backend = Kubernetes(cluster, store)
        backend.check(job)
        name = backend.submit(job)
        assert list(api.jobs) == [name]
        approved("kubernetes.yaml", yaml.safe_dump(api.jobs[name]), store)
        kubernetes_validate.validate(pod_of(api.jobs[name]), "1.33", strict=True)
        approved("kubernetes.sh", (job.output / "pod.sh").read_text(), store)
        assert planted(store) == []
        answers(backend, api, job, name)


def test_ranks_of_a_curation_are_completions_on_kubernetes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node of a TrainJob is a completion of an Indexed Job, which starts it again without the others."""
    cluster = load_cluster(
        "kubernetes", [f"kubernetes.volumes=[{{claim: imbik-store, path: {store}}}]", "defaults.memory_gb=16"]
    )
    api, job = Api(), job_of(cluster, store, "curate", Parallel(), 3)
    with serving(api) as port:
        config = KUBECONFIG | {"clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}]}
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        name = Kubernetes(cluster, store).submit(job)
    assert api.jobs[name]["spec"]["trainer"]["numNodes"] == 3
    approved("kubernetes-array.yaml", yaml.safe_dump(api.jobs[name]), store)
    kubernetes_validate.validate(pod_of(api.jobs[name]), "1.33", strict=True)
    approved("kubernetes-array.sh", (job.output / "pod.sh").read_text(), store)


def answers(backend: Kubernetes, api: Api, job: JobRequest, name: str) -> None:
    """What the states of a TrainJob and its pods are taken for."""
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
    api.pod("Pending", conditions=[unplaced])
    waiting = backend.status(name, job.log)
    assert (waiting.phase, waiting.cause) == ("queued", None)
    assert "0/3 nodes have a GPU" in waiting.detail
    assert backend.find(job.name) == name
    api.pod(
        "Pending", containerStatuses=[container(waiting={"reason": "ImagePullBackOff", "message": "no such image"})]
    )
    assert backend.status(name, job.log).cause == "never-started"
    api.status = {"jobsStatus": [{"name": "node", "active": 1}]}
    api.pod("Running")
    assert backend.status(name, job.log).detail == "on gpu-7"
    api.status = {"jobsStatus": [{"name": "node", "failed": 1}]}
    api.pod("Failed", containerStatuses=[container(terminated={"reason": "OOMKilled", "exitCode": 137})])
    assert (backend.status(name, job.log).phase, backend.status(name, job.log).cause) == ("failed", "memory")
    api.pod("Failed", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}])
    assert backend.status(name, job.log).cause == "preempted"
    api.pod("Failed", reason="Evicted")
    assert backend.status(name, job.log).cause == "node"
    assert backend.find(job.name) is None
    api.status = {"jobsStatus": [{"name": "node", "succeeded": 1, "active": 0}]}
    assert backend.status(name, job.log).phase == "done"
    backend.cancel(name, hard=False)
    assert api.jobs == {}
    assert backend.status(name, job.log).phase == "lost"
