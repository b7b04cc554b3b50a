"""Which questions are found in a text, and which are not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.curation.question_index import Question, QuestionIndex
from jobs.curation.words import ngrams, words_of

LONG = Question(
    "quiz",
    "q1",
    "Which of the following rivers carries most water past the old harbour of the northern capital in spring?",
    ("the green river", "the long river of stones", "the river of nine mills", "none of these rivers"),
)
SHORT = Question(
    "quiz", "q2", "What grows there?", ("barley and oats in small fields", "nothing but moss", "rye", "tea")
)
FREE = Question("sums", "q3", "A farmer has 14 crates with 25 apples each and sells 120 apples; how many are left?")
TINY = Question("quiz", "q4", "Why?", ("yes", "no"))
LOOK = QuestionIndex([LONG, SHORT, FREE, TINY])
AROUND = "Nobody in the village remembered how the mill had come to stand so far from every road and stream. "


def whole(question: Question) -> str:
    return "\n".join(
        [question.text, *(f"{letter}. {text}" for letter, text in zip("ABCD", question.options, strict=False))]
    )


def found(text: str) -> list[str]:
    return [match.question.id for match in LOOK.find(text)]


@pytest.mark.parametrize("question", [LONG, SHORT, FREE])
def test_a_question_in_a_document_is_found(question: Question) -> None:
    assert found(AROUND * 20 + whole(question) + AROUND * 20) == [question.id]


def test_clean_text_has_none() -> None:
    assert found(AROUND * 50) == []
    assert found("") == []


@pytest.mark.parametrize("written", [str.upper, lambda text: text.replace(" ", "  \n"), lambda text: f"<p>{text}</p>"])
def test_case_and_white_space_do_not_hide_it(written: object) -> None:
    assert callable(written)
    assert found(AROUND + written(whole(LONG))) == ["q1"]


@given(st.randoms(use_true_random=False))
def test_options_in_any_order_are_found(chance: random.Random) -> None:
    options = list(LONG.options)
    chance.shuffle(options)
    assert found(whole(Question("", "", LONG.text, tuple(options)))) == ["q1"]


def test_a_long_question_is_found_without_its_options() -> None:
    assert found(AROUND + LONG.text) == ["q1"]


def test_a_short_question_needs_its_options() -> None:
    assert found(AROUND + SHORT.text + " " + AROUND) == []


def test_what_is_too_short_is_told_apart() -> None:
    assert LOOK.unknowable == [TINY]


def test_half_of_the_words_are_enough_and_less_is_not() -> None:
    words = LONG.text.split()
    assert found(" ".join(words[:14])) == ["q1"]
    assert found(" ".join(words[:12])) == []  # 12 of 18 words, but thirteen are wanted


def test_coverage_is_the_share_of_words() -> None:
    (match,) = LOOK.find(AROUND + LONG.text)
    assert match.coverage == 1
    assert (match.first_word, match.last_word) == (19, 36)
    (match,) = LOOK.find(" ".join(LONG.text.split()[:14]))
    assert match.coverage == pytest.approx(14 / 18)


def test_parts_far_from_each_other_are_no_question() -> None:
    first, second = LONG.text.split()[:7], LONG.text.split()[7:]
    assert found(" ".join(first + second)) == ["q1"]
    assert found(" ".join(first) + " " + AROUND * 10 + " ".join(second)) == []


def test_a_stricter_share_finds_less() -> None:
    half = " ".join(LONG.text.split()[:14])
    assert QuestionIndex([LONG], 0.9).find(half) == []
    assert QuestionIndex([LONG], 0.75).find(half) != []


def test_other_numbers_are_told_by_coverage() -> None:
    (match,) = LOOK.find(FREE.text.replace("120", "95"))
    assert match.question == FREE
    assert 0.5 <= match.coverage < 1


def test_without_questions_nothing_is_found() -> None:
    assert QuestionIndex([]).find(AROUND) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The CAT's hat_rack.", ["the", "cat", "s", "hat", "rack"]),
        ("\ufb01ne \u2116 5", ["fine", "no", "5"]),
        ("STRASSE Stra\u00dfe", ["strasse", "strasse"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 6))
def test_equal_runs_have_equal_hashes(ids: list[int], length: int) -> None:
    hashes = ngrams(np.array(ids, np.uint64), length)
    runs = [tuple(ids[start : start + length]) for start in range(len(ids) - length + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))
