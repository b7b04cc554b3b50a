"""What the doctor says of a cluster, from the results of its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.cluster import Cluster
from flows.doctor import cluster as doctor
from flows.doctor.machine import Check

VERSIONS = {"torch": "2.9.0", "numpy": "2.0"}


def cluster_with(**defaults: Any) -> Cluster:
    return Cluster.model_validate({"kind": "slurm", "defaults": defaults})


def rank(node: str = "n1", **fields: Any) -> dict[str, Any]:
    gpu = {"name": "H100", "memory_gb": 80.0}
    return {"node": node, "gpu": gpu, "free_gb": 900.0, "store": True, "versions": dict(VERSIONS)} | fields


def judged(
    *ranks: dict[str, Any], bandwidth: float | None = 9.5, seconds: float = 61.4, gpus: int = 8
) -> dict[str, Check]:
    results = {"ranks": list(ranks), "bandwidth_gb_s": bandwidth, "backend": "nccl"}
    found = doctor._judged(cluster_with(gpus_per_node=gpus), results, VERSIONS, seconds)
    return {check.name: check for check in found}


def test_a_cluster_without_faults() -> None:
    checks = judged(rank("n2"), rank("n1", free_gb=50.0), rank("n1"))
    assert all(check.ok and not check.remedy for check in checks.values())
    assert checks["nodes"].found == "n1, n2: 3 ranks answered in 61 s"
    assert checks["GPUs"].found == "3 of 3 ranks have a GPU (H100 80 GB)"
    assert checks["all-reduce between ranks"].found == "9.5 GB/s of bus bandwidth (nccl, 64 MB)"
    assert checks["store"].found == "readable from every rank, 50 GB free"
    assert checks["versions"].found == "as locked"
    assert [name for name, check in checks.items() if check.required] == ["nodes", "GPUs", "store"]


@pytest.mark.parametrize(("gpus", "ok"), [(8, False), (0, True)])
def test_a_rank_without_a_gpu_is_a_fault_of_gpu_nodes(gpus: int, ok: bool) -> None:
    check = judged(rank(), rank(gpu=None), gpus=gpus)["GPUs"]
    assert (check.ok, check.found) == (ok, "1 of 2 ranks have a GPU (H100 80 GB)")
    assert judged(rank(gpu=None))["GPUs"].found == "0 of 1 ranks have a GPU (none)"


def test_one_rank_measures_no_bandwidth() -> None:
    check = judged(rank(), bandwidth=None)["all-reduce between ranks"]
    assert (check.ok, check.required, check.found) == (False, False, "one rank")


def test_a_node_that_cannot_see_the_store_is_named() -> None:
    check = judged(rank("n1"), rank("n2", store=False), rank("n3", store=False))["store"]
    assert (check.ok, check.required, check.found) == (False, True, "not visible on n2, n3")


@pytest.mark.parametrize(("free", "ok"), [(49.9, False), (50.0, True)])
def test_little_disk_is_a_limitation(free: float, ok: bool) -> None:
    check = judged(rank(), rank(free_gb=free))["disk"]
    assert (check.ok, check.required, check.found) == (ok, False, f"{free:g} GB free")


def test_other_versions_are_those_of_the_first_such_rank() -> None:
    other, third = {"torch": "2.9.0+cu128", "numpy": "1.9"}, {"torch": "1.0"}
    check = judged(rank(), rank("n2", versions=other), rank("n3", versions=third))["versions"]
    assert (check.ok, check.required, check.found) == (False, False, "n2: numpy 1.9, not 2.0")
    assert judged(rank(versions=third))["versions"].found == "n1: torch 1.0, not 2.9.0; numpy missing, not 2.0"


@pytest.mark.parametrize(
    ("installed", "wanted", "same"),
    [
        ("2.9.0+cpu", "2.9.0", True),
        ("2.9.0", "2.9.0+cpu", True),
        ("2.9.1", "2.9.0", False),
        ("", "", False),
        (None, "1", False),
    ],
)
def test_a_build_suffix_is_no_version(installed: str | None, wanted: str, same: bool) -> None:
    assert doctor._same(installed, wanted) == same


@pytest.mark.parametrize(
    ("defaults", "ranks"),
    [
        ({"gpus_per_node": 8}, 8),
        ({"gpus_per_node": 1, "nodes": 3}, 3),
        ({"gpus_per_node": 1}, 1),
        ({}, 2),
        ({"nodes": 1}, 2),
        ({"nodes": 3}, 3),
        ({"gpus_per_node": 8, "parallel": {"processes": 4}}, 4),
    ],
)
def test_the_job_has_a_rank_per_gpu(defaults: dict[str, Any], ranks: int) -> None:
    found = doctor._ranks(cluster_with(**defaults))
    assert (found.processes, found.threads) == (ranks, None if "parallel" in defaults else 1)


def test_wanted_versions_are_the_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(doctor, "VERSIONED", ("prefect", "mlflow", "some_package", "other"))
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "installed")
    assert doctor._wanted() == {"some_package": "installed", "other": "installed"}
    (tmp_path / "lock").write_text("Some-Package==1.2+cpu \\\n    --hash=x\n# other==9\n")
    assert doctor._wanted() == {"some_package": "1.2+cpu", "other": "installed"}


def test_the_engine_of_the_nodes_is_told() -> None:
    assert "vLLM" not in judged(rank(), rank(vllm=None))
    check = judged(rank(vllm="0.32.0"), rank("n2", vllm="0.32.0"))["vLLM"]
    assert (check.ok, check.required, check.found) == (True, False, "0.32.0")
    check = judged(rank(vllm="0.32.0"), rank("n2", vllm="/opt/python has no vLLM; name"))["vLLM"]
    assert (check.ok, check.found) == (False, "/opt/python has no vLLM; name")
    assert check.remedy.endswith("in defaults.environment.IMBIK_VLLM_PYTHON")
