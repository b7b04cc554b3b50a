"""Which launcher runs a job: that of the flow's cluster, or of the one where a killed flow left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.cluster import Cluster, load_cluster
from conf.parallel import Parallel
from conf.spec import Spec
from tasks.launch import launchers as module
from tasks.launch import submission
from tasks.launch.cluster import ClusterLauncher
from tasks.launch.launchers import Launchers
from tasks.launch.local import LocalLauncher


class Noted:
    """A launcher that notes what it is told."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.told = cluster, list[str]()

    def prepare(self) -> None:
        self.told.append("prepare")

    def run(self, spec: Spec, *_: Any) -> None:
        self.told.append(f"run {spec.stage}")

    def stop(self) -> None:
        self.told.append("stop")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    """The launchers that were made."""
    found: list[Noted] = []

    def launcher(cluster: Cluster, store: Path) -> Noted:
        found.append(Noted(cluster))
        return found[-1]

    monkeypatch.setattr(module, "_launcher", launcher)
    return found


def run(launchers: Launchers, folder: Path, stage: str) -> None:
    spec = Spec(stage=stage, key="k", config={}, output=str(folder / stage))
    listener: Any = None
    launchers.run(spec, Parallel(), lambda line: None, lambda: None, listener)


def test_a_job_runs_where_a_killed_flow_left_it(
    made: list[Noted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, slurm = load_cluster("local"), load_cluster("slurm")
    there = {str(tmp_path / "distill"): slurm, str(tmp_path / "sft"): load_cluster("slurm")}

    class Left:
        def __init__(self, cluster: Cluster) -> None:
            self.cluster = cluster

    monkeypatch.setattr(submission, "read", lambda output: Left(there[output]) if output in there else None)
    launchers = Launchers(local, tmp_path)
    launchers.prepare()
    for stage in ("data", "distill", "sft", "prune"):
        run(launchers, tmp_path, stage)
    launchers.stop()
    assert [(one.cluster.kind, one.told) for one in made] == [
        ("local", ["prepare", "run data", "run prune", "stop"]),
        ("slurm", ["run distill", "run sft", "stop"]),
    ], "one for each cluster"


@pytest.mark.parametrize("kind", ["local", "docker", "slurm", "kubernetes"])
def test_each_kind_of_cluster_has_its_launcher(kind: str, tmp_path: Path) -> None:
    found: Any = module._launcher(load_cluster(kind), tmp_path)
    if kind == "local":
        assert isinstance(found, LocalLauncher)
    else:
        assert isinstance(found, ClusterLauncher) and type(found.backend).__name__.lower() == kind
