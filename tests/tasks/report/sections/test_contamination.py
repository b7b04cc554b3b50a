"""Scores with and without the questions that occur in the training text, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from tasks.report.sections.contamination import read_contamination, section


def stage(folder: Path, found: dict[str, list[int]]) -> str:
    content = {
        "questions": 6,
        "unknowable": 1,
        "documents": {"data": 1200, "records": 3},
        "documents_with_questions": 2,
    }
    (folder / "contamination.json").write_text(json.dumps(content | {"found": found, "min_coverage": 0.5}))
    match = {"subject": "rivers", "index": 1, "question": "Which river?", "excerpt": "which river"}
    (folder / "matches.jsonl").write_text(json.dumps(match) + "\n")
    return str(folder)


def scores(folder: Path, marks: str) -> str:
    """An evaluate artifact with six answers: + is right."""
    folder.mkdir()
    items = [{"subject": "rivers", "index": index, "correct": mark == "+"} for index, mark in enumerate(marks)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(folder)


def test_scores_are_given_with_and_without_the_questions(tmp_path: Path) -> None:
    models = {"teacher": scores(tmp_path / "teacher", "+++--+"), "small": scores(tmp_path / "small", "-+----")}
    read = read_contamination(stage(tmp_path, {"rivers": [1, 2]}), models)
    assert read is not None
    teacher, small = read.scores
    assert (teacher.model, teacher.clean, teacher.clean_n) == ("teacher", 2 / 4, 4)
    assert (teacher.found, teacher.found_n) == (1.0, 2)
    assert (small.clean, small.found) == (0.0, 0.5)
    interval = binomtest(2, 4).proportion_ci(method="wilson")
    assert teacher.clean_ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_section_counts_questions_and_documents(tmp_path: Path) -> None:
    shown: Any = section(
        read_contamination(stage(tmp_path, {"rivers": [1, 2]}), {"t": scores(tmp_path / "t", "++++--")})
    )
    assert shown.sentences[0].startswith("2 of the 6 questions occur in the training text, in 2 of 1,203 documents")
    assert "1 more are too short" in shown.sentences[1]
    assert shown.rows == (("t", "50.0%", "15.0% to 85.0%", "4", "100.0%", "2"),)
    assert shown.notes[1] == "rivers 1: Which river? / which river"


@pytest.mark.parametrize("found", [{}, {"rivers": [0, 1, 2, 3, 4, 5]}])
def test_without_two_parts_there_is_no_table(found: dict[str, list[int]], tmp_path: Path) -> None:
    shown: Any = section(read_contamination(stage(tmp_path, found), {"t": scores(tmp_path / "t", "++++--")}))
    assert (shown.header, shown.rows) == ((), ())


def test_without_the_stage_there_is_no_section() -> None:
    assert section(read_contamination(None, {})) is None
