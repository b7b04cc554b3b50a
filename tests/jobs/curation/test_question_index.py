"""Which questions are found in a text, and which are not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.curation.question_index import Question, QuestionIndex, kept_words
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


def numbered(count: int, options: tuple[str, ...] = ()) -> Question:
    return Question("quiz", "n", " ".join(part(0, count)), options)


def part(first: int, last: int) -> list[str]:
    return [f"word{number}" for number in range(first, last)]


FILLER = ["other"] * 40


@pytest.mark.parametrize(("words", "share", "least"), [(30, 0.5, 15), (20, 0.5, 13), (12, 0.5, 12), (8, 0.1, 8)])
def test_the_least_that_is_a_question(words: int, share: float, least: int) -> None:
    """The share of its words, but thirteen of them at least, or all where it has fewer."""
    index = QuestionIndex([numbered(words)], share)
    (match,) = index.find(" ".join([*FILLER, *part(words - least, words), *FILLER]))
    assert match.coverage == least / words and (match.first_word, match.last_word) == (40, 39 + least)
    assert index.find(" ".join([*FILLER, *part(words - least + 1, words), *FILLER])) == []


@pytest.mark.parametrize(("between", "found"), [(0, 1), (14, 1), (15, 0)])
def test_runs_stand_within_twice_its_length(between: int, found: int) -> None:
    """Of a question of ten words two runs of five are all, in whatever order."""
    for first, second in ((part(0, 5), part(5, 10)), (part(5, 10), part(0, 5))):
        text = " ".join([*FILLER, *first, *FILLER[:between], *second])
        assert len(QuestionIndex([numbered(10)]).find(text)) == found


def test_words_that_come_again_count_once() -> None:
    index = QuestionIndex([numbered(20)])
    assert index.find(" ".join(part(0, 8) * 3)) == []
    assert index.find(" ".join([*part(0, 8), *part(8, 13)]))[0].coverage == 13 / 20


def test_a_word_of_no_question_is_none_of_its() -> None:
    assert QuestionIndex([numbered(18)]).find(" ".join(["other", *part(1, 18)]))[0].coverage == 17 / 18


@pytest.mark.parametrize(
    ("words", "options", "known"), [(8, (), True), (7, (), False), (3, ("five", "six six"), False)]
)
def test_eight_words_are_enough_to_know(words: int, options: tuple[str, ...], known: bool) -> None:
    assert (QuestionIndex([numbered(words, options)]).unknowable == []) == known
    assert QuestionIndex([numbered(words, (*options, " ".join(part(30, 38))))]).unknowable == []


def test_the_form_with_more_of_its_words_counts() -> None:
    """All options beside a part of the question; the larger share first."""
    options = tuple(" ".join(part(first, first + 5)) for first in (100, 200))
    index = QuestionIndex([numbered(20, options), Question("quiz", "o", " ".join(part(300, 315)))])
    text = " ".join(["other", *part(300, 315), *part(6, 20), *options])
    matches = index.find(text)
    assert [(match.question.id, match.coverage) for match in matches] == [("o", 1), ("n", 24 / 30)]
    assert index.excerpt(text, matches[0]) == " ".join(part(300, 315))


def test_letters_alone_are_left_out_and_digits_are_not() -> None:
    assert kept_words("A. 5 cats (b) I") == ["5", "cats"]
