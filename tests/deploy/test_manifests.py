"""What stands in deploy/: valid by the schemas of compose and Kubernetes, pinned, confined, closed to the world,
without secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml

from conf.secrets import is_secret

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
FILES = ("base.yaml", "services.yaml", "worker.yaml")
OBJECTS: list[dict[str, Any]] = [
    one for name in FILES for one in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
]
PINNED = re.compile(r"^[a-z0-9./-]+:[0-9][A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?$")


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod spec and labels of everything that runs."""
    for one in OBJECTS:
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield (
                one["metadata"]["name"],
                one["spec"]["template"]["spec"],
                one["spec"]["template"]["metadata"]["labels"],
            )
        elif one["kind"] == "CronJob":
            template = one["spec"]["jobTemplate"]["spec"]["template"]
            yield one["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def flow_pod(**values: Any) -> dict[str, Any]:
    """The Job that Prefect's own Kubernetes worker makes of the template for one flow run."""
    import asyncio

    from prefect.client.schemas.objects import FlowRun
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    template = json.loads((DEPLOY / "kubernetes" / "gpu-job-template.json").read_text())
    # The client would look up blocks and variables that a template names; this one names none, so it is never used.
    made = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(template, values, client=SimpleNamespace())
    )
    made.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="run"))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


def test_compose_is_what_the_compose_specification_allows() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_compose_service_is_pinned_watched_and_closed(name: str) -> None:
    service = COMPOSE["services"][name]
    assert PINNED.match(service["image"]), service["image"]
    watch = service["healthcheck"]
    assert watch.get("test") or (watch == {"disable": True} and service["restart"] == "no"), "what ends has no health"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "no-new-privileges:true" in service["security_opt"] and not service.get("privileged")
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    for variable, value in service["environment"].items():
        if is_secret(variable):
            assert re.fullmatch(r"\$\{[A-Z_]+(:\?[^}]+|-)\}", str(value)), f"{variable} is given a value"
    assert service["restart"] == "no" or service["deploy"]["resources"]["limits"]["memory"]


def test_compose_workers_cannot_reach_databases_or_bucket() -> None:
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert networks["worker"] == networks["gpu-worker"] == {"front"}
    assert networks["postgres"] == networks["s3"] == networks["backup"] == {"data"}


def test_env_example_lists_every_compose_variable_without_value() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    lines = [line for line in (DEPLOY / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert used == {line.partition("=")[0] for line in lines}
    assert all(line.endswith("=") for line in lines)


@pytest.mark.slow
def test_the_manifests_are_what_kubernetes_takes(tmp_path: Path) -> None:
    flow = flow_pod()
    flow["metadata"]["name"] = flow["metadata"].pop("generateName") + "1"  # as the API server does
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(flow))
    files = [str(DEPLOY / "kubernetes" / name) for name in FILES] + [str(tmp_path / "flow.yaml")]
    command = [str(BIN / "kubernetes-validate"), "--kubernetes-version", "1.33", "--strict", "--quiet", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [*(name for name, _, _ in pods()), "flow"])
def test_a_pod_is_pinned_confined_bounded_and_watched(name: str) -> None:
    pod = (
        flow_pod()["spec"]["template"]["spec"]
        if name == "flow"
        else next(pod for called, pod, _ in pods() if called == name)
    )
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod.get(one) for one in ("hostNetwork", "hostPID", "hostIPC"))
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert PINNED.match(container["image"]), container["image"]
        own = container["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
        for variable in container["env"]:
            assert "value" not in variable or not is_secret(variable["name"]), f"{variable['name']} is given a value"
    if name not in ("backup", "flow"):  # those end
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_gpu_job_requests_gpus_store_and_shared_memory() -> None:
    job = flow_pod(gpus=4, memory="256Gi", env={"IMBIK_STORE": "/store/other"}, node_selector={"gpu": "h100"})
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (
        container["resources"]["limits"]["nvidia.com/gpu"] == 4
        and container["resources"]["limits"]["memory"] == "256Gi"
    )
    assert pod["nodeSelector"] == {"gpu": "h100"} and job["spec"]["backoffLimit"] == 0, "imbik tries again by itself"
    assert {"name": "store", "persistentVolumeClaim": {"claimName": "imbik-store"}} in pod["volumes"]
    assert container["envFrom"] == [{"secretRef": {"name": "imbik-flow"}}]


def test_every_pod_has_a_network_policy_and_no_public_port() -> None:
    policies = [one for one in OBJECTS if one["kind"] == "NetworkPolicy"]
    assert any(one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for one in policies), (
        "what is not named is denied"
    )
    named: set[str] = set()
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        named |= set(selector.get("matchLabels", {}).values())
        named |= {value for rule in selector.get("matchExpressions", []) for value in rule["values"]}
    assert {labels["app"] for _, _, labels in pods()} | {"flow"} <= named
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in OBJECTS if one["kind"] == "Service")
    assert not any(one["kind"] in ("Ingress", "Secret", "ClusterRole", "ClusterRoleBinding") for one in OBJECTS)


def test_compose_and_kubernetes_configure_servers_alike() -> None:
    """What the drill runs from compose.yaml is what a cluster runs, but for where each keeps its secrets."""
    for name in ("prefect", "mlflow"):
        pod = next(pod for called, pod, _ in pods() if called == name)
        there = {entry["name"] for entry in pod["containers"][0]["env"]} - {"MLFLOW_DB_PASSWORD"}
        assert there == set(COMPOSE["services"][name]["environment"]) - {"DO_NOT_TRACK"}
        assert pod["containers"][0]["args"] == COMPOSE["services"][name]["command"]
        assert pod["containers"][0]["image"] == COMPOSE["services"][name]["image"]


def test_the_images_locks_are_those_of_the_whole_lock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import locks, json; print(json.dumps(locks.locks()))"],
        cwd=DEPLOY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name, text in json.loads(done.stdout).items():
        assert (DEPLOY / name).read_text() == text, f"{name} is stale; run .venv/bin/python deploy/locks.py"
        kept = (
            r"^(torch|megatron-core|triton)=="
            if name.startswith("worker")
            else r"^(torch|megatron-core|nvidia-modelopt)=="
        )
        assert bool(re.search(kept, text, re.MULTILINE)) == name.startswith("../"), name


@pytest.mark.drill
def test_control_side_runs_without_torch(tmp_path: Path) -> None:
    """Everything else that is installed here cannot be imported: the image's own check, without the image."""
    (tmp_path / "sitecustomize.py").write_text(
        "import re, sys\n"
        "from importlib.metadata import packages_distributions\n"
        f"lines = open({str(DEPLOY / 'control.lock')!r}).readlines()\n"
        "held = {re.sub('[-_.]+', '-', line.split('==')[0]).lower() for line in lines}\n"
        "absent = {name for name, owners in packages_distributions().items()\n"
        "          if not any(re.sub('[-_.]+', '-', owner).lower() in held for owner in owners)}\n"
        "absent -= {'conf', 'tasks', 'flows', 'distutils', '_distutils_hack', 'pkg_resources', 'setuptools'}\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in absent:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    libraries = "mlflow, nemo_run, prefect_kubernetes, psycopg2, asyncpg, boto3, flask_wtf, kubernetes"
    code = f"import flows.cli, flows.compress, flows.plan, {libraries}"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{DEPLOY.parent}", "PREFECT_HOME": str(tmp_path)}
    whole = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr[-2000:]
    torch = subprocess.run(
        [sys.executable, "-c", "import torch"], env=environment, capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in torch.stderr


def test_the_dockerfiles_have_no_finding() -> None:
    files = [str(path) for path in DEPLOY.glob("*.Dockerfile")]
    done = subprocess.run([str(BIN / "hadolint"), *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "") and len(files) == 2
    for path in DEPLOY.glob("*.Dockerfile"):
        assert re.search(r"^USER 1000", path.read_text(), re.MULTILINE), "images run as nobody special"
