"""Words, sentences and repeats of a document as the filters count them."""

from __future__ import annotations

import pytest

from jobs.curation.prose import TERMINAL, Prose, points, repeated, sentences


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 1),
        ("No end", 1),
        ("One. Two", 2),
        ("One. Two. ", 2),
        ("One! Two? Three.", 3),
        ("Wait... what", 1),
        ("By J. Smith", 1),
        ("The USA. Then", 2),
        ("\u00c9t\u00e9\u3002 Deux", 2),
    ],
)
def test_sentences_are_counted(text: str, number: int) -> None:
    assert sentences(text) == number


def test_code_points_are_hexadecimal_and_ranges_whole() -> None:
    assert points("21 2e 61-63") == {"!", ".", "a", "b", "c"}
    assert {".", "!", "?", "\u3002"} <= TERMINAL and "," not in TERMINAL


@pytest.mark.parametrize(
    ("parts", "found"),
    [([], (0, 0)), (["a", "bb"], (0, 0)), (["a", "bb", "bb", "a", "bb"], (3, 5)), (["", ""], (1, 0))],
)
def test_repeated_parts_and_their_characters(parts: list[str], found: tuple[int, int]) -> None:
    assert repeated(parts) == found


def test_words_and_how_often_they_occur() -> None:
    text = Prose("It's 1,000 in the U.S. -- the end...")
    assert text.words == ["It", "'s", "1,000", "in", "the", "U.S.", "--", "the", "end", "..."]
    assert (text.times["the"], text.times["in"], text.times["none"]) == (2, 1, 0)
