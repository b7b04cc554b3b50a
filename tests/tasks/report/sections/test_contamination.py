"""Scores with and without the questions that occur in the training text, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from tasks.report.model import ReportModel
from tasks.report.sections.contamination import read_contamination, section, summary


def stage(folder: Path, found: dict[str, list[int]], **more: Any) -> str:
    content = {
        "questions": 6,
        "unknowable": 1,
        "documents": {"data": 1200, "records": 3},
        "documents_with_questions": 2,
    }
    (folder / "contamination.json").write_text(json.dumps(content | more | {"found": found, "min_coverage": 0.5}))
    match = {"subject": "rivers", "index": 1, "question": "Which river?", "excerpt": "which river"}
    (folder / "matches.jsonl").write_text(json.dumps(match) + "\n")
    return str(folder)


def scores(folder: Path, marks: str) -> str:
    """An evaluate artifact with six answers: + is right."""
    folder.mkdir()
    items = [{"subject": "rivers", "index": index, "correct": mark == "+"} for index, mark in enumerate(marks)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(folder)


def model(name: str, scores: str, **benchmarks: str) -> ReportModel:
    own = {"student": None, "format": None, "training": None, "path": ""}
    return ReportModel(model=name, stage="teacher", scores=scores, benchmarks=benchmarks, **own)


def test_scores_are_given_with_and_without_the_questions(tmp_path: Path) -> None:
    marks = {"teacher": "+++--+", "small": "-+----"}
    models = [model(name, scores(tmp_path / name, marks[name])) for name in marks]
    read = read_contamination(stage(tmp_path, {"rivers": [1, 2]}), models)
    assert read is not None
    teacher, small = read.scores
    assert (teacher.model, teacher.score, teacher.clean, teacher.clean_n) == ("teacher", 4 / 6, 2 / 4, 4)
    assert (teacher.found, teacher.found_n) == (1.0, 2)
    assert (small.clean, small.found) == (0.0, 0.5)
    interval = binomtest(2, 4).proportion_ci(method="wilson")
    assert teacher.clean_ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_each_benchmark_has_rows_of_its_own(tmp_path: Path) -> None:
    judged = tmp_path / "judged"
    judged.mkdir()
    items = [
        {"subject": "gsm8k", "index": index, "sample": sample, "correct": sample == 0 and index > 0}
        for index in range(4)
        for sample in range(2)
    ]
    (judged / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    asked = model("t", scores(tmp_path / "t", "++++--"), gsm8k=str(judged))
    shown: Any = section(read_contamination(stage(tmp_path, {"gsm8k": [0], "rivers": [5]}), [asked]))
    assert [row[:5] for row in shown.rows] == [
        ("mmlu", "t", "66.7%", "1 of 6", "80.0%"),
        ("gsm8k", "t", "75.0%", "1 of 4", "100.0%"),
    ]


def test_the_section_counts_questions_and_documents(tmp_path: Path) -> None:
    read = read_contamination(stage(tmp_path, {"rivers": [1, 2]}), [model("t", scores(tmp_path / "t", "++++--"))])
    shown: Any = section(read)
    assert shown.sentences[0].startswith("2 of the 6 questions occur in the training text, in 2 of 1,203 documents")
    assert "1 more are too short" in shown.sentences[1]
    assert shown.rows == (("mmlu", "t", "66.7%", "2 of 6", "50.0%", "15.0% to 85.0%", "4", "100.0%"),)
    assert shown.notes[1] == "rivers/1: Which river? / which river"
    assert summary(read) == [
        "2 of the 6 benchmark questions occur in the training text; the section Questions in the training text has the"
        " scores without them."
    ]


def test_what_was_taken_out_before_is_told(tmp_path: Path) -> None:
    taken = {"action": "cut", "read": 900, "removed": 3, "cut": 4, "allowed": 1, "found": {"rivers": [0, 3]}}
    folder = stage(tmp_path, {}, taken_out={"data": taken}, allowed=1)
    read = read_contamination(folder, [model("t", scores(tmp_path / "t", "++++--"))])
    shown: Any = section(read)
    assert shown.sentences[2:] == (
        "1 more documents are allowed by contamination.reviewed.",
        "Before that, 2 questions were found in data: 3 of 900 training documents were left out and cut from 4.",
    )
    assert summary(read) == []


def test_where_all_questions_are_known_no_score_is_left(tmp_path: Path) -> None:
    folder = stage(tmp_path, {"rivers": [0, 1, 2, 3, 4, 5]})
    shown: Any = section(read_contamination(folder, [model("t", scores(tmp_path / "t", "++++--"))]))
    assert shown.rows == (("mmlu", "t", "66.7%", "6 of 6", "-", "-", "0", "66.7%"),)


def test_where_no_question_is_found_there_is_no_table(tmp_path: Path) -> None:
    shown: Any = section(read_contamination(stage(tmp_path, {}), [model("t", scores(tmp_path / "t", "++++--"))]))
    assert (shown.header, shown.rows) == ((), ())


def test_without_the_stage_there_is_no_section() -> None:
    assert section(read_contamination(None, [])) is None
