"""The whole flow through the command line: what it makes, what it makes again, where it writes, and that any of it can
be repeated."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.flow import MODELS, RECIPE, imbik, left_behind, prefect_server, report_of, start

pytestmark = pytest.mark.slow
FIELDS = ("model", "stage", "path", "num_params", "bytes", "mmlu", "mmlu_n", "mmlu_ci95", "val_loss", "perplexity")
NULLABLE = ("kl_teacher", "agreement_teacher", "tokens_per_second")


def test_a_row_for_every_model_and_the_models_are_where_it_says(finished: Path) -> None:
    report = report_of(finished, "tiny")
    assert report["name"] == "tiny"
    assert [row["model"] for row in report["rows"]] == MODELS
    for row in report["rows"]:
        assert all(row[field] is not None for field in FIELDS)
        assert all(field in row for field in NULLABLE)
        assert (Path(row["path"]) / "config.json").is_file()
        assert row["perplexity"] == pytest.approx(math.exp(row["val_loss"]))
        assert row["mmlu_n"] == 60
        low, high = row["mmlu_ci95"]
        assert low <= row["mmlu"] <= high
        weights = sum(path.stat().st_size for path in Path(row["path"]).glob("*.safetensors"))
        assert row["bytes"] == weights
    by_model = {row["model"]: row for row in report["rows"]}
    assert (
        by_model["depth-nvfp4"]["bytes"]
        < by_model["depth-fp8"]["bytes"]
        < by_model["depth"]["bytes"]
        < by_model["teacher"]["bytes"]
    )
    assert by_model["depth"]["num_params"] < by_model["teacher"]["num_params"]
    assert by_model["teacher"]["kl_teacher"] == pytest.approx(0, abs=1e-6)
    assert by_model["depth"]["kl_teacher"] < by_model["depth-pruned"]["kl_teacher"]
    assert (finished / "runs" / "tiny" / "report.html").is_file()


def test_a_second_run_builds_nothing(finished: Path) -> None:
    def made() -> dict[str, str]:
        return {str(path): path.read_text() for path in finished.glob("*/*/artifact.json")}

    before = made()
    again = imbik("run", str(RECIPE), "--name", "again", store=finished)
    assert again.returncode == 0, again.stderr
    assert made() == before
    rows = [report_of(finished, name)["rows"] for name in ("again", "tiny")]
    for row in (*rows[0], *rows[1]):
        row["path"] = row["path"].partition("/store/")[2]  # the store may be a copy of that of the first run
    assert rows[0] == rows[1]
    states = [line.split(": ")[1] for line in again.stdout.splitlines() if line[2:3] == ":" and ": " in line]
    assert set(states) == {"cached"}


def test_changed_setting_rebuilds_only_dependents(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    before = {path.parent.name for path in store.glob("*/*/artifact.json")}
    one = "quantize=[{format: fp8, calibration_samples: 8, seq_length: 64, batch: 4, parallel: {threads: 1}}]"
    changes = ["distill.temperature=2.0", "students.width=null", one]
    done = imbik("run", str(RECIPE), *changes, "--name", "warmer", store=store)
    assert done.returncode == 0, done.stderr
    new = [
        json.loads(path.read_text())["stage"]
        for path in store.glob("*/*/artifact.json")
        if path.parent.name not in before
    ]
    assert sorted(new) == ["distill", "evaluate", "evaluate", "quantize"]


def test_everything_is_written_under_the_store(finished: Path) -> None:
    home = finished.parent / "home"
    stray = [str(path) for path in home.rglob("*") if path.is_file() and ".cache" not in path.parts]
    assert stray == []
    assert (finished / "prefect").is_dir()
    assert (finished / "mlflow.db").is_file()
    assert not list((finished / ".work").glob("*/")), "nothing half made is left"
    assert left_behind(finished) == []


def test_mlflow_has_a_run_per_flow_and_a_child_per_stage(finished: Path) -> None:
    with sqlite3.connect(finished / "mlflow.db") as database:
        runs = dict(database.execute("select run_uuid, name from runs where name = 'tiny'"))
        parent = next(iter(runs))
        children = [
            name
            for (name,) in database.execute(
                "select r.name from runs r join tags t on r.run_uuid = t.run_uuid where t.key = 'mlflow.parentRunId'"
                " and t.value = ?",
                (parent,),
            )
        ]
        metrics = dict(database.execute("select key, count(*) from metrics group by key"))
    report = report_of(finished, "tiny")
    stages = {path.name for path in (finished / "runs" / "tiny").iterdir() if path.is_symlink()}
    assert len(runs) == 1
    assert sorted(children) == sorted(stages)
    assert metrics["val_kl"] > 2 * len(report["curves"])
    assert list((finished / "mlflow-artifacts").rglob("report.html"))
    assert not list((finished / "mlflow-artifacts").rglob("*.safetensors")), "models are logged by reference"


@pytest.mark.parametrize(
    "label",
    [
        "data",
        "teacher",
        *(pytest.param(label, marks=pytest.mark.drill) for label in ("prune-depth", "quantize-depth-nvfp4")),
    ],
)
def test_a_job_repeats_from_its_record_to_the_same_bytes(finished: Path, label: str) -> None:
    artifact = (finished / "runs" / "tiny" / label).resolve()
    spec = json.loads((artifact / "spec.json").read_text())
    done = subprocess.run(
        [sys.executable, "-m", f"jobs.{spec['stage']}", "--spec", str(artifact / "spec.json")],
        capture_output=True,
        text=True,
        check=False,
        cwd=RECIPE.parents[2],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    again = Path(spec["output"])
    compared = [path for path in artifact.rglob("*") if path.suffix in (".bin", ".idx", ".safetensors")]
    assert compared
    for path in compared:
        assert (again / path.relative_to(artifact)).read_bytes() == path.read_bytes(), path.name
    shutil.rmtree(again)


@pytest.mark.drill
def test_two_runs_at_once_build_each_artifact_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    small = ["students.width=null", "students.depth.quantize=false"]
    server = {"PREFECT_API_URL": prefect_server()}
    both = [start("run", str(RECIPE), *small, "--name", name, store=store, more=server) for name in ("one", "other")]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert report_of(store, "one")["rows"] == report_of(store, "other")["rows"]
    records = [json.loads(path.read_text()) for path in store.glob("*/*/artifact.json")]
    assert sorted(record["stage"] for record in records) == [
        "contamination",
        "data",
        "distill",
        "evaluate",
        "evaluate",
        "evaluate",
        "importance",
        "prune",
        "teacher",
    ]
    assert left_behind(store) == []
