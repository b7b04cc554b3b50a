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
from tests.tasks.report.sections.test_benchmarks import judged


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


def test_chance_is_that_of_the_first_models_questions(models: list[ReportModel], tmp_path: Path) -> None:
    scored = [Path(model.scores or "") / "scores.json" for model in models[2:4]]
    for file, chance in zip(scored, (0.5, 0.25), strict=True):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mmlu_chance": chance}))
    assert write_models(tmp_path / "run", "evaluated", "", models[2:4]).chance == 0.5


def test_benchmarks_of_single_models_are_reported(models: list[ReportModel], tmp_path: Path) -> None:
    asked = [
        models[2].model_copy(update={"benchmarks": judged(tmp_path, "a", 16, None).benchmarks}),
        models[3].model_copy(update={"benchmarks": judged(tmp_path, "b", 8, None).benchmarks}),
    ]
    report = write_models(tmp_path / "run", "evaluated", "", asked)
    assert [(row.model, row.scores.score) for row in report.benchmarks] == [("small", 0.8), ("small-fp8", 0.4)]
    against = report.benchmarks[1].against_teacher
    assert against and against.model == "small" and against.difference == pytest.approx(-0.4)
    assert [part.title for part in report.sections] == ["Benchmarks"]
    assert write_models(tmp_path / "none", "evaluated", "", models[2:]).sections == ()


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


def finished(
    store: Path, run: str, correct: int, loss: float, count: int = 8, data: str = "corpus", asked: int = 200
) -> Report:
    """A run of a store: a teacher that all runs share, and a student of its own, scored on the first `count` sequences
    of the test split of `data` and the first `asked` questions."""
    folder, sealed = store / "evaluate", []
    for name, kind, right, mean in (("teacher", "teacher", 180, 1.0), ("small", "distill", correct, loss)):
        model = measured(store / f"made-{run}", name, kind, right, mean)
        made = Path(model.path).parent.rename(store / f"made-{run}" / (name if name == "teacher" else f"{run}-{name}"))
        files = {name: (Path(model.scores) / name).read_text() for name in ("scores.json", "items.jsonl")}
        files["items.jsonl"] = "\n".join(files["items.jsonl"].splitlines()[:asked])
        # Later sequences are harder: a mean over more of them is higher for the same model.
        losses = [mean + 0.001 * place * place for place in range(count)]
        files["sequences.json"] = json.dumps({"val_loss": losses})
        inputs = {"model": made.name, "data": data}
        path = artifact(folder / f"{run}-{name}", "evaluate", files, inputs)
        sealed.append(model.model_copy(update={"scores": str(path), "path": f"{made}/model"}))
    return write_models(store / "runs" / run, run, "", sealed)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Report]:
    """Two runs of a store with one teacher, and a student that is better in the second."""
    store = tmp_path / "store"
    return {"one": finished(store, "one", 100, 2.0), "two": finished(store, "two", 150, 1.5)}


def told(store: Path, runs: dict[str, Report]) -> tuple[str, ...]:
    return write_comparison(store / "compared", "compared", runs, [], Store(store)).summary


def test_namesakes_of_runs_are_paired(runs: dict[str, Report], tmp_path: Path) -> None:
    differences = [("distill", "steps", "10", "20")]
    report = write_comparison(tmp_path / "compared", "compared", runs, differences, Store(tmp_path / "store"))
    assert [row.model for row in report.rows] == ["one/teacher", "one/small", "two/teacher", "two/small"]
    _, better = report.summary
    assert better.startswith("two/small against one/small: -0.5000 nats (95% -0.5000 to -0.5000) and +25.0 points")
    assert report.sections[0].header == ("stage", "setting", "one", "two")
    assert report.sections[0].rows == (("distill", "steps", "10", "20"),) and report.sections[0].sentences == ()
    assert (len(report.provenance), report.chance) == (8, 0.25)


def test_one_model_in_two_runs_is_the_same_whatever_scored(tmp_path: Path) -> None:
    store = tmp_path / "store"
    runs = {"one": finished(store, "one", 100, 2.0, 8), "two": finished(store, "two", 100, 2.0, 4)}
    assert told(store, runs)[0] == (
        "two/teacher against one/teacher: the same model, one artifact of the store; there is nothing to compare."
    )


def test_losses_are_paired_over_the_sequences_both_scored(tmp_path: Path) -> None:
    store = tmp_path / "store"
    runs = {"one": finished(store, "one", 100, 2.0, 8), "two": finished(store, "two", 100, 2.0, 4)}
    assert (
        "two/small against one/small: +0.0000 nats (95% +0.0000 to +0.0000, a tie) over the 4 test sequences"
        in (told(store, runs)[1])
    )


def test_scores_are_paired_over_the_questions_both_answered(runs: dict[str, Report], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "common questions" not in told(store, runs)[1]
    fewer = finished(store, "three", 150, 1.5, asked=160)
    assert ", over 160 common questions; " in told(store, {"one": runs["one"], "three": fewer})[1]


def test_losses_on_other_text_are_not_compared(tmp_path: Path) -> None:
    store = tmp_path / "store"
    runs = {"one": finished(store, "one", 100, 2.0), "two": finished(store, "two", 150, 1.5, data="other")}
    sentence = told(store, runs)[1]
    assert "test losses are not compared, because they were measured on different text" in sentence
    assert "scores are not compared, because the questions differ" in sentence and "nats" not in sentence


def test_runs_without_namesakes_say_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one, two = finished(store, "one", 100, 2.0), finished(store, "two", 150, 1.5)
    only = two.model_copy(update={"rows": two.rows[:1]})
    other = one.model_copy(update={"rows": one.rows[1:]})
    assert told(store, {"one": other, "two": only}) == ("The runs have no model of the same name: nothing is paired.",)


def test_columns_name_what_they_are_against(models: list[ReportModel], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    report = write_models(folder, "quantized", "two formats", models[2:], "demo/teacher")
    page = (folder / "report.md").read_text()
    assert report.teacher == "demo/teacher"
    assert "| Δ small |" in page and "Δ teacher" not in page
    assert "KL(demo/teacher ‖ model)" in page and "points of score against small" in page


def test_rows_of_compared_runs_are_against_their_own(runs: dict[str, Report], tmp_path: Path) -> None:
    write_comparison(tmp_path / "compared", "compared", runs, [], Store(tmp_path / "store"))
    page = (tmp_path / "compared" / "report.md").read_text()
    assert "| Δ first of its run |" in page and "KL(the teacher of its run ‖ model)" in page


def test_equal_runs_differ_in_nothing(runs: dict[str, Report], tmp_path: Path) -> None:
    report = write_comparison(tmp_path / "compared", "compared", runs, [], Store(tmp_path / "store"))
    assert report.sections[0].sentences == ("Every stage that the runs share is the same artifact.",)
