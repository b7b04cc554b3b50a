"""Each bound of the filters of generated answers, with texts counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.generate import GenerateConfig
from jobs.generation.answers import Answer
from jobs.generation.filters import RepeatFilter, fault, normalised, repeated_share

LETTERS = "p q r s p q r s p q"


def judged(text: str, **settings: Any) -> str | None:
    answer = Answer(prompt=0, sample=0, text=text, finished=True)
    return fault(answer, GenerateConfig.model_validate({"prompts": "x"} | settings))


def test_at_the_most_characters_an_answer_stays() -> None:
    assert judged("abc", max_chars=3) is None
    assert judged("abcd", max_chars=3) == "too long"
    assert judged("word " * 4 + "x" * 20_000, max_chars=None) != "too long"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a b c d a b c d a b c d", 1 - 4 / 9),  # 12 words: 9 runs of four, 4 of them different
        ("ab " * 10 + "ab", 1 - 3 / 25),  # 11 words: by its 32 characters, 25 runs of eight, 3 different
        ("abcdefgh" * 3, 1 - 8 / 17),
        ("abcdefgh" * 2 + "abcdefg", 0),  # 23 characters are too few
        ("a b c d e f g h i j k l", 0),
        ("", 0),
    ],
)
def test_the_share_of_repeated_runs(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


def test_at_the_share_of_repeats_an_answer_stays() -> None:
    text = "abcdefgh" * 3
    share = repeated_share(text)
    assert judged(text, max_repeated_share=share) is None
    assert judged(text, max_repeated_share=share - 1e-9) == "repetitive"


@pytest.mark.parametrize("code", [0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF, 0xFFFD, 0xD800, 0xE000, 0x7F, 0x0])
def test_what_no_text_holds(code: int) -> None:
    assert judged(f"a {chr(code)}") == "not text"


@pytest.mark.parametrize("code", [0xFDCF, 0xFDF0, 0xFFFC, 0x378, 0x0A, 0x0D, 0x85, 0x200D])
def test_what_a_text_may_hold(code: int) -> None:
    assert judged(f"a {chr(code)}") is None


def test_a_fault_of_the_prompt_comes_first() -> None:
    config = GenerateConfig(prompts="x")
    assert fault(Answer(prompt=0, sample=0, fault="too long a prompt"), config) == "too long a prompt"
    assert fault(Answer(prompt=0, sample=0), config) == "empty"


def test_eight_words_can_be_a_near_repeat_and_seven_not() -> None:
    for text, reason in (("a b c d e f g", None), ("a b c d e f g h", "near repeat of another answer")):
        seen = RepeatFilter(1.0)
        assert seen.repeats("one", text) is None
        assert seen.repeats("two", text) == reason


def test_near_repeats_share_their_runs_of_three_words() -> None:
    """Both texts have the runs pqr, qrs, rsp and spq, and no other; in runs of four or in their last two words they
    would differ."""
    seen = RepeatFilter(1.0)
    assert seen.repeats("one", LETTERS) is None
    assert seen.repeats("two", f"{LETTERS} r") == "near repeat of another answer"


def test_the_last_word_makes_a_difference() -> None:
    seen = RepeatFilter(1.0)
    assert seen.repeats("one", "a b c d e f g h i") is None
    assert seen.repeats("two", "a b c d e f g h j") is None


def test_repeats_are_remembered_only_where_they_are_new() -> None:
    seen = RepeatFilter(0.9)
    text = "a b c d e f g h i"
    assert [seen.repeats("one", text), seen.repeats("two", text), seen.repeats("two", text)] == [
        None,
        "near repeat of another answer",
        "near repeat of another answer",
    ]
    assert normalised("\ufb01ne  DAY\n") == "fine day"
