"""The report of a run: its files, its JSON contract, and its parts from made-up scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from conf.load import load
from tasks.report.model import ReportModel, RunExtras
from tasks.report.report import make_report, write, write_report
from tasks.store.runs import read_report
from tests.fixtures.report import artifact, measured, models  # noqa: F401 - a fixture

# Fields of every row that other programs read, null where nothing was measured.
REQUIRED = {
    "model": str,
    "stage": str,
    "path": str,
    "num_params": int,
    "bytes": int,
    "val_loss": float,
    "perplexity": float,
}
OPTIONAL = {
    "mmlu": float,
    "mmlu_n": int,
    "mmlu_ci95": list,
    "kl_teacher": float,
    "agreement_teacher": float,
    "tokens_per_second": float,
}
UNASKED = dict.fromkeys(("mmlu", "mmlu_n", "mmlu_ci95", "mmlu_chance", "shots"))


def test_rows_have_the_fields_others_read(models: list[ReportModel], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "mine", load("demo"), models)
    content: dict[str, Any] = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (content["name"], content["version"]) == ("mine", 1)
    for row, model in zip(content["rows"], models, strict=True):
        assert all(type(row[field]) is kind for field, kind in REQUIRED.items())
        assert all(row[field] is None or type(row[field]) is kind for field, kind in OPTIONAL.items())
        assert (row["model"], row["stage"], row["path"]) == (model.model, model.stage, model.path)
    assert [row["tokens_per_second"] for row in content["rows"]] == [10.0, 10.0, 10.0, None, None]
    assert not [path.name for path in (tmp_path / "run").rglob(".*")], "no partial file is left"


def test_a_written_report_reads_back_equal(models: list[ReportModel], tmp_path: Path) -> None:
    report = write_report(tmp_path / "run", "mine", load("demo"), models)
    assert read_report(tmp_path / "run") == report
    named = report.model_copy(update={"description": "written again"})
    assert write(tmp_path / "run", named, {}) == read_report(tmp_path / "run") == named
    assert (tmp_path / "run" / "plots" / "size.svg").is_file(), "figures stay"


def test_what_was_not_measured_is_null_and_a_dash(tmp_path: Path) -> None:
    bare = measured(tmp_path, "teacher", "teacher", 0, 1.0)
    scores = {"num_params": 1, "bytes": 2, "val_loss": 1.0, "perplexity": 2.7, "val_tokens": 64, "simulated": False}
    (Path(bare.scores) / "scores.json").write_text(json.dumps(scores))
    (Path(bare.scores) / "items.jsonl").unlink()
    report = write_report(tmp_path / "run", "bare", load("demo"), [bare])
    assert {getattr(report.rows[0], field) for field in OPTIONAL} == {None}
    lines = (tmp_path / "run" / "report.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith("| teacher |"))
    assert line == "| teacher | 1 | 0.00 MB | - | - | 1.0000 | 2.700 | - | - | - |"
    assert "<td>-</td>" in (tmp_path / "run" / "report.html").read_text()


def test_the_same_scores_make_the_same_bytes(models: list[ReportModel], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, "mine", load("demo"), models)
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    drawn = [f"plots/{name}.svg" for name in ("chosen-formats", "quantization-error", "size", "validation-loss")]
    assert [str(path) for path in written] == [*drawn, "report.html", "report.json", "report.md"]
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in written)


def test_the_chance_is_the_teachers(models: list[ReportModel]) -> None:
    assert make_report("mine", load("demo"), models).chance == 0.25


def test_the_summary_ends_with_the_winner(models: list[ReportModel], tmp_path: Path) -> None:
    for model in models:
        (Path(model.scores) / "sequences.json").write_text(json.dumps({"val_loss": [1.0, 2.0]}))
    recipe = load("demo", ["students.width=null", "students.small={prune: {num_layers: 3}}"])
    report = make_report("mine", recipe, models)
    assert report.winner and report.summary[-1] == report.winner.sentence


def test_without_questions_no_score_is_compared(tmp_path: Path) -> None:
    both = [
        measured(tmp_path, "teacher", "teacher", 0, 1.0, **UNASKED),
        measured(tmp_path, "small-pruned", "prune", 0, 2.0, **UNASKED),
    ]
    for model in both:
        (Path(model.scores) / "items.jsonl").unlink()
    report = write_report(tmp_path / "run", "mine", load("demo"), both)
    assert report.chance is None
    assert report.rows[1].against_teacher.mmlu is report.rows[1].mmlu is None
    assert "cost 1.000 nats" in " ".join(report.summary)


def test_the_page_needs_no_other_file(models: list[ReportModel], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "mine", load("demo"), models)
    page = (tmp_path / "run" / "report.html").read_text()
    links = [link for link in re.findall(r"""(?:src|href)=["']([^"']+)""", page) if not link.startswith("#")]
    assert links == []
    assert not re.findall(r"@import|url\((?!#)|<(?:script|link|iframe|object|embed|img|base)\b", page)
    assert page.count("<svg") == 4


def test_no_text_of_a_recipe_or_record_is_markup(models: list[ReportModel], tmp_path: Path) -> None:
    hostile = "</title><img src=x onerror=alert(1)>"
    recipe = load("demo").model_copy(update={"description": hostile})
    file = Path(models[0].scores) / "artifact.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": hostile, "versions": {hostile: hostile}}))
    write_report(tmp_path / "run", f"a|b{hostile}", recipe, models)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<img" not in page
    assert page.count("</title>") == 1
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


def test_layer_importance_is_drawn_if_measured(models: list[ReportModel], tmp_path: Path) -> None:
    content = json.dumps({"layer_scores": {"1": 0.8, "2": 0.01}})
    folder = artifact(tmp_path / "importance", "importance", {"importance.json": content})
    report = write_report(tmp_path / "run", "mine", load("demo"), models, RunExtras(importance=str(folder)))
    assert report.layer_importance == {"1": 0.8, "2": 0.01}
    assert (tmp_path / "run" / "plots" / "layer-importance.svg").is_file()
    assert (tmp_path / "run" / "report.html").read_text().count("<svg") == 5


@pytest.mark.parametrize("picture", ["quantization-error", "chosen-formats"])
def test_quantization_is_drawn(picture: str, models: list[ReportModel], tmp_path: Path) -> None:
    write_report(tmp_path / "run", "mine", load("demo"), models)
    assert (tmp_path / "run" / "plots" / f"{picture}.svg").read_text().startswith("<svg")


def test_sections_come_in_the_order_of_the_pipeline(models: list[ReportModel]) -> None:
    titles = [section.title for section in make_report("mine", load("demo"), models).sections]
    assert titles == ["How the students learned", "Quantization error by layer", "Format of each layer"]
