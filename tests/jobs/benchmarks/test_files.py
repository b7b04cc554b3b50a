"""Questions and responses come back from their files as they were, and a killed job's file ends with a whole batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmarks.files import Numbered, QuestionSet, ResponseFile, read_questions, read_responses, write_questions
from jobs.benchmarks.question import Choice, Question, Response
from jobs.benchmarks.table import BENCHMARKS

BATCHES = [2, 3, 1]


def response(number: int) -> Numbered:
    said = Response(text=f"it is {number}", stop="end", logprobs=(-0.5, -float(number)))
    return Numbered(question=number // 2, sample=number % 2, tokens=3 * number, response=said)


def name(folder: Path) -> Path:
    return folder / "responses.jsonl"


def written(folder: Path, count: int, torn: bytes = b"") -> list[Numbered]:
    """A file of `count` responses and perhaps a part of another."""
    made = [response(number) for number in range(count)]
    ResponseFile(name(folder), BATCHES).add(made)
    with name(folder).open("ab") as stream:
        stream.write(torn)
    return made


@pytest.mark.parametrize("torn", [b"", b'{"question": 1, "sam'])
@pytest.mark.parametrize(
    ("count", "batches", "kept"), [(0, 0, 0), (1, 0, 0), (2, 1, 2), (4, 1, 2), (5, 2, 5), (6, 3, 6)]
)
def test_whole_batches_stay(count: int, batches: int, kept: int, torn: bytes, tmp_path: Path) -> None:
    made = written(tmp_path, count, torn)
    assert ResponseFile(name(tmp_path), BATCHES).batches_done == batches
    assert list(read_responses(tmp_path)) == made[:kept]


def test_a_whole_file_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 6)
    monkeypatch.setattr("os.truncate", lambda *_: pytest.fail("a whole file was cut"))
    assert ResponseFile(name(tmp_path), BATCHES).batches_done == 3


def test_the_next_batch_follows_the_whole_ones(tmp_path: Path) -> None:
    made = written(tmp_path, 4)
    file = ResponseFile(name(tmp_path), BATCHES)
    file.add([response(9)])
    assert list(read_responses(tmp_path)) == [*made[:2], response(9)]


def test_a_response_is_the_first_sample_unless_it_says() -> None:
    one = Numbered(question=4, response=Response())
    assert (one.sample, one.tokens) == (0, 0)


def test_questions_come_back_as_they_were(tmp_path: Path) -> None:
    choices = tuple(Choice(context="Q", continuation=f" {text}", text=text) for text in "AB")
    questions = [
        Question(id="1", text="Q", answer=" A", gold="0", choices=choices, chance=0.5, group="g"),
        Question(id="2", text="R\nS", answer=" 7", gold="7"),
    ]
    made = QuestionSet(
        benchmark=BENCHMARKS["gsm8k"],
        shots=5,
        left_out={"3": "too long"},
        questions=questions,
        prompts=["asks Q", "asks R\nS"],
        seconds={"2": 1.5},
    )
    write_questions(tmp_path, made, {"revision": "r"})
    assert read_questions(tmp_path) == made
    facts = json.loads((tmp_path / "questions.json").read_text())
    assert (facts["questions"], facts["revision"]) == (2, "r")
