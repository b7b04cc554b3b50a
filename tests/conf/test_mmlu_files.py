"""MMLU's CSV files: exact letters, and sentences with the file and the line, before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conf.load import load
from conf.mmlu_files import choose, read_folder
from conf.stages.evaluate import Mmlu


def folder(tmp_path: Path, content: str | bytes, split: str = "test") -> Path:
    file = tmp_path / split / f"odd_{split}.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("q,1,2,3,4,BC\n", "odd_test.csv:1 is not question,A,B,C,D,answer with one answer from A to D: 'q,1,2,3,4,BC'"),
        ("q,1,2,3,4,A\n\nq,1,2,3,4,ABCD\n", "odd_test.csv:3 is not question,A,B,C,D,answer"),
        ("q,1,2,3,4,AB\n", "odd_test.csv:1 is not"),
        ("q,1,2,3,4,b\n", "odd_test.csv:1 is not"),
        (",,,,,\n", "odd_test.csv:1 is not"),
        ("q,1,2,3,4,A\n , \n", "odd_test.csv:2 is not"),
        ("q;1;2;3;4;A\n", "odd_test.csv:1 is not"),
        ("\n \n", "odd_test.csv has no questions"),
        ("q,1,2,3,4,A\nT\u00fcrkiye'nin ba\u015fkenti,1,2,3,4,A\n".encode("cp1254"), "odd_test.csv:2 is not UTF-8"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_folder(folder(tmp_path, content), Mmlu())


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_and_blank_lines_are_no_part_of_a_question(tmp_path: Path, codec: str) -> None:
    content = '\n\u015eehir?,1,2,3,4, D \r\n\r\n  \n"two\nlines",1,2,3,4,A\n'
    (subject,) = read_folder(folder(tmp_path, content.encode(codec)), Mmlu())
    assert [(row["question"], row["answer"]) for row in subject.test] == [("\u015eehir?", 3), ("two\nlines", 0)]


@pytest.mark.parametrize(
    ("split", "settings", "told"),
    [
        ("test", [], "odd_test.csv:1 is not question"),
        ("dev", [], "odd_dev.csv:1 is not question"),
        (
            "dev",
            ["evaluate.mmlu.subjects=[od]"],
            "mmlu.subjects names 'od', which .* does not have; the nearest is 'odd'",
        ),
        ("val", ["evaluate.mmlu.shots=3"], "mmlu.shots is 3 but odd has 0 worked examples; choose at most 0"),
    ],
)
def test_bad_questions_are_refused_when_a_recipe_loads(
    tmp_path: Path, split: str, settings: list[str], told: str
) -> None:
    folder(tmp_path, "q,1,2,3,4,A\n")
    folder(tmp_path, "q,1,2,3,4,BC\n", split)
    with pytest.raises(ValueError, match=told):
        load("demo", [f"evaluate.mmlu.path={tmp_path}", *settings])


@pytest.mark.parametrize(
    ("name", "nearest"), [("anatomie", "anatomy"), ("world", "world_religions"), ("xyz", "anatomy")]
)
def test_some_subject_is_always_the_nearest(name: str, nearest: str) -> None:
    there = ["anatomy", "marketing", "world_religions"]
    with pytest.raises(ValueError, match=rf"names '{name}', which here does not have; the nearest is '{nearest}'"):
        choose(Mmlu(subjects=(name,)), there, "here")
    assert choose(Mmlu(), there, "here") == there
    assert choose(Mmlu(subjects=("marketing", "anatomy")), there, "here") == ["marketing", "anatomy"]
