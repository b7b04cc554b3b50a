"""What a run keeps in its folder, and what its report says of how it was made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import load_cluster
from conf.load import load
from conf.spec import Record
from tasks.report.run_info import CLUSTER, RECIPE, _trained, describe, keep
from tasks.store.store import Artifact
from tests.fixtures.report import artifact

LOCAL = load_cluster("local")


def kept(folder: Path, *overrides: str, ended: bool) -> Path:
    keep(folder, RECIPE, load("demo", list(overrides)).model_dump(mode="json"), LOCAL, "imbik run demo", ended=ended)
    return folder / RECIPE


def test_a_kept_recipe_is_the_recipe(tmp_path: Path) -> None:
    file = kept(tmp_path / "runs" / "demo", "distill.min_lr=3e-7", ended=False)
    assert load(str(file)) == load("demo", ["distill.min_lr=3e-7"])
    assert file.read_text().splitlines()[0] == "# imbik run demo"
    assert load_cluster(str(file.with_name(CLUSTER))) == LOCAL


def test_kept_settings_stand_as_they_were_given(tmp_path: Path) -> None:
    keep(tmp_path / "runs" / "mine", "some.yaml", {"b": "\u00e9t\u00e9", "a": 1}, LOCAL, "imbik\n  run", ended=True)
    lines = (tmp_path / "runs" / "mine" / "some.yaml").read_text(encoding="utf-8").splitlines()
    assert lines == ["# imbik run", f"# in {Path.cwd()}, where relative paths start", "b: \u00e9t\u00e9", "a: 1"]


def test_a_run_that_fails_keeps_the_finished_ones_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    first = kept(folder, ended=True).read_text()
    (folder / "report.json").write_text("{}")
    assert kept(folder, "distill.min_lr=3e-7", ended=False).read_text() == first
    assert kept(folder, "distill.min_lr=3e-7", ended=True).read_text() != first


def stage(root: Path, label: str, name: str, seconds: float, **config: Any) -> Artifact:
    """A sealed stage with these settings."""
    path = artifact(root / label, name, {})
    record = json.loads((path / "artifact.json").read_text()) | {"seconds": seconds, "config": config}
    (path / "artifact.json").write_text(Record.model_validate(record).model_dump_json())
    return Artifact(stage=name, key=label, path=str(path))


def session(root: Path, cluster: str) -> Any:
    made = {
        "data": stage(root, "data", "data", 10.0),
        "teacher": stage(root, "teacher", "teacher", 3600.0, parallel={"processes": 8}, steps=0, precision="bf16"),
        "distill-a": stage(
            root,
            "distill-a",
            "distill",
            1800.0,
            parallel={"processes": 4},
            precision="fp32",
            steps=10,
            global_batch=2,
            seq_length=8,
        ),
    }
    made["distill-b"] = made["distill-a"]  # two students that share one artifact
    made = {"records": stage(root, "records", "records", 0.0), **made}  # it has statistics too, but no corpus
    (root / "records" / "statistics.json").write_text(json.dumps({"splits": {"train": {"tokens": 7}}}))
    (root / "data" / "statistics.json").write_text(json.dumps({"splits": {"train": {"tokens": 1234}}}))
    stages = {label: (each, label != "teacher") for label, each in made.items()}
    return SimpleNamespace(stages=stages, cluster=load_cluster(cluster), started=datetime.now(UTC))


@pytest.mark.parametrize(
    ("cluster", "visible", "hours"), [("slurm", "", 10.0), ("local", "", None), ("local", "0,1", 10.0)]
)
def test_hours_count_each_artifact_once(
    cluster: str, visible: str, hours: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run = describe(session(tmp_path, cluster), "imbik run demo", "here", "t", ("world",))
    assert (run.gpu_hours, run.stage_seconds) == (hours, 5410.0)
    assert (run.built, run.stages, run.cluster) == (1, 5, cluster)


def test_tokens_and_precisions_are_told(tmp_path: Path) -> None:
    run = describe(session(tmp_path, "local"), "imbik run demo", "here")
    assert run.corpus_tokens == 1234
    assert run.trained_tokens == {"distill-a": 160}, "students that share an artifact count once"
    assert run.precisions == {"bf16": ("teacher",), "fp32": ("distill",)}


def test_shared_steps_are_counted_where_they_are_made() -> None:
    shared = {"global_batch": 2, "seq_length": 8}
    trunk, branch = {"steps": 41, "until": 40, "begun": 10}, {"steps": 50, "begun": 40}
    assert [_trained(config | shared) for config in (trunk, branch)] == [30 * 16, 10 * 16]
    assert _trained({"precision": "fp32"}) == 0
    assert _trained({"steps": 3, **shared}) == 48 and _trained({"steps": 3, "seq_length": 8}) == 0
    assert _trained({"qad": {"steps": 5, **shared}, "steps": None}) == 80


def test_a_run_took_the_time_since_it_began(tmp_path: Path) -> None:
    going = session(tmp_path, "local")
    going.started = datetime.now(UTC) - timedelta(seconds=90)
    run = describe(going, "imbik run demo", "here")
    assert 90 <= run.seconds < 150 and run.started == going.started.isoformat(timespec="seconds")


def test_a_layout_without_processes_is_one_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    going = session(tmp_path, "local")
    going.stages = {"prune": (stage(tmp_path, "prune", "prune", 900.0, parallel={}), False)}
    run = describe(going, "imbik run demo", "here")
    assert (run.gpu_hours, run.corpus_tokens) == (0.25, None)
