"""Reports of single stages: models side by side, a corpus, and runs compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.report.report import Report
from tasks.report.model import ReportModel
from tasks.report.standalone import write_comparison, write_corpus, write_models
from tasks.store.runs import read_report
from tasks.store.store import Artifact, Store
from tests.fixtures.report import artifact, measured, models  # noqa: F401 - a fixture


def test_models_are_compared_with_the_first(models: list[ReportModel], tmp_path: Path) -> None:
    report = write_models(tmp_path / "run", "quantized", "two formats", models[2:])
    assert read_report(tmp_path / "run") == report
    assert (report.chance, report.description) == (0.25, "two formats")
    assert [sentence.split(":")[0] for sentence in report.summary] == [
        "small-fp8 against small",
        "small-nvfp4 against small",
    ]
    assert report.summary[1].startswith("small-nvfp4 against small: +0.3000 nats and -12.0 points")
    assert report.summary[1].endswith("30% of its size.")
    assert len(report.provenance) == 6


def test_a_corpus_shows_its_splits_and_totals(tmp_path: Path) -> None:
    splits = {"train": {"tokens": 12_345, "documents": 10, "name": "x"}, "test": {"tokens": 99}}
    statistics = {"splits": splits, "vocabulary": 400, "rejected": {"short": 1}, "source": "world"}
    (tmp_path / "statistics.json").write_text(json.dumps(statistics))
    report = write_corpus(tmp_path / "run", "corpus", Artifact(stage="data", key="k", path=str(tmp_path)))
    table, totals = report.sections
    assert table.header == ("split", "documents", "tokens")
    assert table.rows == (("train", "10", "12,345"), ("test", "0", "99"))
    assert totals.rows == (("vocabulary", "400"), ("source", '"world"'))
    assert report.rows == () and str(tmp_path) in report.summary[0]
    assert "| train | 10 | 12,345 |" in (tmp_path / "run" / "report.md").read_text()


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Report]:
    """Two runs of a store with a teacher and a student, which is better in the second."""
    reports = {}
    for run, correct, loss in (("one", 100, 2.0), ("two", 150, 1.5)):
        folder = tmp_path / "store" / "evaluate"
        models = [
            measured(tmp_path / run, "teacher", "teacher", 180, 1.0),
            measured(tmp_path / run, "small", "distill", correct, loss),
        ]
        sealed = []
        for model in models:
            files = {name: (Path(model.scores) / name).read_text() for name in ("scores.json", "items.jsonl")}
            key = f"{run}-{model.model}"
            path = artifact(folder / key, "evaluate", files, {"model": Path(model.path).parent.name})
            sealed.append(model.model_copy(update={"scores": str(path)}))
        reports[run] = write_models(tmp_path / "store" / "runs" / run, run, "", sealed)
    return reports


def test_namesakes_of_runs_are_paired(runs: dict[str, Report], tmp_path: Path) -> None:
    differences = [("distill", "steps", "10", "20")]
    report = write_comparison(tmp_path / "compared", "compared", runs, differences, Store(tmp_path / "store"))
    assert [row.model for row in report.rows] == ["one/teacher", "one/small", "two/teacher", "two/small"]
    same, better = report.summary
    assert same.startswith("two/teacher against one/teacher: +0.0000 nats and +0.0 points")
    assert better.startswith("two/small against one/small: -0.5000 nats and +25.0 points")
    assert report.sections[0].header == ("stage", "setting", "one", "two")
    assert report.sections[0].rows == (("distill", "steps", "10", "20"),) and report.sections[0].sentences == ()
    assert (len(report.provenance), report.chance) == (8, 0.25)


def test_equal_runs_differ_in_nothing(runs: dict[str, Report], tmp_path: Path) -> None:
    report = write_comparison(tmp_path / "compared", "compared", runs, [], Store(tmp_path / "store"))
    assert report.sections[0].sentences == ("Every stage that the runs share is the same artifact.",)
