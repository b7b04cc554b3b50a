"""What a run leaves in its folder and says of itself: enough to make it again, and comparisons that do not mislead."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml

from tests.fixtures.flow import RECIPE, imbik, report_of

pytestmark = pytest.mark.slow
HOW = ("evaluate.seq_length=64", "evaluate.precision=fp32", "evaluate.mmlu=null", "evaluate.new_tokens=0")


def artifacts(store: Path) -> set[Path]:
    return set(store.glob("[!.]*/*/artifact.json"))


def test_a_run_is_made_again_from_its_folder(finished: Path) -> None:
    before, folder = artifacts(finished), finished / "runs" / "tiny"
    again = imbik("run", str(folder / "recipe.yaml"), "--name", "from-folder", store=finished)
    assert again.returncode == 0, again.stderr
    assert artifacts(finished) == before, "the recipe of a run names other artifacts"
    copied = finished / "runs" / "from-folder" / "recipe.yaml"
    assert yaml.safe_load(copied.read_text()) == yaml.safe_load((folder / "recipe.yaml").read_text())
    assert yaml.safe_load((folder / "cluster.yaml").read_text())["kind"] == "local"
    cluster = imbik("plan", str(folder / "recipe.yaml"), "--cluster", str(folder / "cluster.yaml"), store=finished)
    assert cluster.returncode == 0 and "will run" not in cluster.stdout, cluster.stdout + cluster.stderr


def test_the_report_says_how_its_run_was_made(finished: Path) -> None:
    run = report_of(finished, "tiny")["run"]
    assert run["command"].startswith(f"imbik run {RECIPE} --name tiny")
    assert run["built"] == run["stages"] > 10
    assert run["stage_seconds"] > 0 and run["seconds"] > 0 and run["gpu_hours"] is None
    assert run["teacher"] == "trained from scratch" and run["data"] == ["world"] and run["corpus_tokens"] > 0
    assert {"teacher", "distill-depth", "distill-width"} == set(run["trained_tokens"])
    page = (finished / "runs" / "tiny" / "report.html").read_text()
    assert run["started"][:16].replace("T", " ") in page and run["machine"] in page


def test_the_winners_figures_are_on_mlflows_parent_run(finished: Path) -> None:
    report = report_of(finished, "tiny")
    won = next(row for row in report["rows"] if row["model"] == report["winner"]["model"])
    with sqlite3.connect(finished / "mlflow.db") as database:
        parents = "select run_uuid from runs where name = 'tiny'"
        metrics = dict(database.execute(f"select key, value from latest_metrics where run_uuid in ({parents})"))
        tags = dict(database.execute(f"select key, value from tags where run_uuid in ({parents})"))
    assert tags["imbik.winner"] == won["model"]
    assert metrics["winner_test_loss"] == pytest.approx(won["val_loss"])
    assert metrics["winner_bytes"] == won["bytes"]


@pytest.mark.drill
def test_one_model_scored_twice_is_not_compared(finished: Path) -> None:
    for name, sequences in (("few", 4), ("more", 12)):
        done = imbik(
            "evaluate",
            "tiny/depth",
            "tiny/width",
            *HOW,
            f"evaluate.sequences={sequences}",
            "--name",
            name,
            store=finished,
        )
        assert done.returncode == 0, done.stderr
    compared = imbik("compare", "few", "more", store=finished)
    assert compared.returncode == 0, compared.stderr
    summary = report_of(finished, "compared")["summary"]
    assert len(summary) == 2 and all("the same model, one artifact of the store" in sentence for sentence in summary)
    page = (finished / "runs" / "few" / "report.md").read_text()
    assert "Δ tiny/depth" in page and "KL(tiny/teacher ‖ model)" in page and "Δ teacher" not in page


@pytest.mark.drill
def test_a_model_nobody_taught_is_promoted_by_force_only(finished: Path) -> None:
    refused = imbik("promote", "tiny/depth-pruned", store=finished)
    assert refused.returncode == 2
    assert "tiny/depth-pruned is not promoted: nobody taught it" in refused.stderr and "--force" in refused.stderr
    assert imbik("promote", "tiny/depth-pruned", "--force", store=finished).returncode == 0
    assert imbik("promote", "tiny/depth-fp8", store=finished).returncode == 0
