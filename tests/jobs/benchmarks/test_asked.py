"""The questions that are looked for in text: which, under which names, and without what a prompt puts around them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from conf.stages.data import World
from conf.stages.evaluate import Mmlu
from jobs.benchmarks.asked import _shown, asked
from jobs.benchmarks.question import Choice, Question
from jobs.world.world import write_quiz

QUIZ = Mmlu(path="quiz", limit=2)


@pytest.fixture(scope="module")
def quiz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quiz")
    write_quiz(World(seed=5, entities=20, documents=300, questions=60), folder)
    return folder


def first_rows(quiz: Path, subject: str) -> list[list[str]]:
    with (quiz / "test" / f"{subject}_test.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def test_the_quiz_is_named_by_subject_and_number_from_0(quiz: Path) -> None:
    found = asked({}, QUIZ, quiz, ())
    subjects = sorted(path.name.removesuffix("_test.csv") for path in (quiz / "test").iterdir())
    assert [(one.benchmark, one.id) for one in found] == [(name, str(n)) for name in subjects for n in range(2)]
    row = first_rows(quiz, subjects[0])[1]
    assert (found[1].text, found[1].options) == (row[0], tuple(row[1:5]))
    assert len(asked({}, QUIZ.model_copy(update={"limit": None}), quiz, ())) == sum(
        len(first_rows(quiz, name)) for name in subjects
    )
    assert asked({}, None, quiz, ()) == []


def test_reviewed_questions_are_left_out_and_must_exist(quiz: Path) -> None:
    whole = asked({}, QUIZ, quiz, ())
    subject = whole[0].benchmark
    left = asked({}, QUIZ, quiz, (f"{subject}/1", "a digest of a text"))
    assert left == [one for one in whole if (one.benchmark, one.id) != (subject, "1")]
    with pytest.raises(
        ValueError, match=rf"names question {subject}/2, but {subject} has 2; questions are counted fro"
    ):
        asked({}, QUIZ, quiz, (f"{subject}/2",))
    with pytest.raises(ValueError, match=r"names question none/0, but there are only \w+, "):
        asked({}, QUIZ, quiz, ("none/0",))


def test_a_folder_given_to_the_job_goes_before_the_setting(quiz: Path, tmp_path: Path) -> None:
    elsewhere = Mmlu(path=str(tmp_path / "gone"), limit=1)
    assert asked({"mmlu": str(quiz)}, elsewhere, None, ()) == asked({}, Mmlu(path=str(quiz), limit=1), None, ())


def question(text: str, answer: str = "a", *choices: str) -> Question:
    options = tuple(Choice(continuation=text, text=text) for text in choices)
    return Question(id="q", text=text, answer=answer, gold="g", choices=options)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Question: Why?\nAnswer:", "Why?"),
        ("Problem:\nFind x.\n\nSolution:", "Find x."),
        ("Question:\nWhich?\nOptions:\nA. one\nAnswer: Let's think step by step.", "Which?\n\nA. one"),
        ("The Question: is it?", "The Question: is it?"),
        (
            "You are an expert Python programmer, and here is your task: Add two. Your code should pass these",
            "Add two.",
        ),
    ],
)
def test_a_question_is_shown_without_its_frame(text: str, shown: str) -> None:
    assert _shown(question(text)) == (shown, ())


def test_a_sentence_with_a_gap_is_shown_as_it_is_right() -> None:
    assert _shown(question("", "The mill stood still.", "mill", "hill")) == ("The mill stood still.", ())
