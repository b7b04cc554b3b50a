"""What is asked of NeMo-Run, which is stood in for: an experiment that ends its jobs is left open."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import load_cluster
from tasks.launch import nemo_run
from tasks.launch.backend import JobRequest, SubmitError


class Experiment:
    """Notes what it is told; `made` are all of them."""

    made: list[Experiment]
    fails: str | None = None

    def __init__(self, title: str, **settings: Any) -> None:
        self.title, self.settings, self.told, self.detach = title, settings, list[str](), False
        copied = SimpleNamespace(tunnel=SimpleNamespace(session=None))
        self.jobs = [SimpleNamespace(handle="scheduler://session/7", executor=copied)]
        self.made.append(self)

    def __enter__(self) -> Experiment:
        self.told.append("opened")
        return self

    def __exit__(self, *error: object) -> None:
        self.told.append(f"closed, detached {self.detach}")

    def add(self, task: Any, executor: Any, name: str) -> None:
        self.told.append(f"{name}: {task.path}")

    def run(self, detach: bool) -> None:
        self.told.append(f"ran, detached {detach}")
        if self.fails:
            raise RuntimeError(self.fails)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    console = SimpleNamespace(quiet=False)
    monkeypatch.setitem(sys.modules, "nemo_run.core.frontend.console.api", SimpleNamespace(CONSOLE=console))
    scripts = SimpleNamespace(Experiment=Experiment, Script=lambda **given: SimpleNamespace(**given))
    monkeypatch.setitem(sys.modules, "nemo_run", scripts)
    monkeypatch.setattr(nemo_run, "_staying", {})
    monkeypatch.setattr(Experiment, "made", [], raising=False)
    return Experiment.made


def job(store: Path) -> JobRequest:
    resources = load_cluster("slurm").resources("prune")
    spec = store / "work" / "spec.json"
    return JobRequest(name="j", stage="prune", spec=spec, store=store, resources=resources, nodes=1, ranks=1)


@pytest.mark.parametrize("stays", [False, True])
def test_a_job_is_submitted_and_not_waited_for(stays: bool, made: list[Experiment], tmp_path: Path) -> None:
    executor: Any = SimpleNamespace(tunnel=SimpleNamespace(session="open"))
    assert nemo_run.submit(job(tmp_path), executor, stays=stays) == "scheduler://session/7"
    (experiment,) = made
    ended = [] if stays else ["closed, detached True"]
    assert experiment.told == ["opened", "prune: jobs.prune", "ran, detached True", *ended]
    assert experiment.jobs[0].executor.tunnel.session == "open"
    assert nemo_run._staying == ({"scheduler://session/7": experiment} if stays else {})
    assert experiment.settings["base_dir"] == str(tmp_path / ".work" / "nemo-run")
    assert experiment.settings["skip_status_at_exit"], "its status would be printed between ours"


def test_a_script_runs_instead_of_the_job(made: list[Experiment], tmp_path: Path) -> None:
    executor: Any = SimpleNamespace()
    nemo_run.submit(job(tmp_path), executor, name="other", script=tmp_path / "start.sh")
    assert made[0].told[1] == f"prune: {tmp_path}/start.sh" and made[0].settings["id"] == "other"


def test_a_refusal_is_the_clusters_sentence(
    made: list[Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Experiment, "fails", "no such partition\nmore")
    executor: Any = SimpleNamespace()
    with pytest.raises(SubmitError, match=r"^no such partition$"):
        nemo_run.submit(job(tmp_path), executor)
    assert made[0].told[-1] == "closed, detached True"


@pytest.mark.parametrize(
    ("known", "state"), [(SimpleNamespace(state=SimpleNamespace(name="RUNNING")), "RUNNING"), (None, "UNKNOWN")]
)
def test_a_handle_has_a_state_and_is_cancelled(
    known: Any, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    runner = SimpleNamespace(status=lambda handle: (asked.append(handle), known)[1], cancel=asked.append)
    module = SimpleNamespace(get_runner=lambda: runner)
    monkeypatch.setitem(sys.modules, "nemo_run.run.torchx_backend.runner", module)
    monkeypatch.setenv("NEMORUN_HOME", "elsewhere")
    assert nemo_run.state(tmp_path, "h") == state
    nemo_run.cancel(tmp_path, "i")
    assert asked == ["h", "i"]


@pytest.mark.parametrize(("nodes", "ranks", "launched"), [(1, 1, False), (1, 2, True), (2, 1, True)])
def test_several_ranks_start_under_torchrun(
    nodes: int, ranks: int, launched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = SimpleNamespace(Torchrun=lambda rdzv_port: rdzv_port)
    monkeypatch.setitem(sys.modules, "nemo_run.core.execution.launcher", launcher)
    asked = replace(job(tmp_path), nodes=nodes, ranks=ranks)
    assert nemo_run.torchrun(asked, 4000) == (4000 if launched else None)


def test_scripts_are_not_serialized_again(made: list[Experiment], tmp_path: Path) -> None:
    """NeMo-Run would read each script's source anew for its metadata."""
    executor: Any = SimpleNamespace(tunnel=SimpleNamespace(session="open"))
    nemo_run.submit(job(tmp_path), executor)
    assert made[0].settings["serialize_metadata_for_scripts"] is False
    assert made[0].settings["clean_mode"] and not made[0].settings["enable_goodbye_message"]
