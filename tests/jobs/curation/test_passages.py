"""Passages are cut by their words, and by nothing else of the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.curation.passages import CHUNK, without
from jobs.curation.question_index import kept_words

WORDS = "one two three four five six"


@given(st.text())
def test_words_are_the_same_whole_and_by_chunks(text: str) -> None:
    """Places of words are counted in chunks between spaces; in the index they are counted over the whole text."""
    assert [word for chunk in CHUNK.findall(text) for word in kept_words(chunk)] == kept_words(text)


@given(st.text(max_size=300), st.text(max_size=300))
def test_the_passage_goes_and_others_words_come_from_the_text(before: str, after: str) -> None:
    text = f"{before}\n{WORDS}.\n{after}"
    first = len(kept_words(before))
    left = without(text, first, first + 5)
    assert kept_words(left) in (kept_words(f"{before}\n{after}"), kept_words(before)) or after.lstrip()[:1].isalnum()
    assert len(kept_words(left)) <= len(kept_words(text)) - 6


def test_a_cut_ends_where_its_sentence_does() -> None:
    text = f"It rains. They say {WORDS}, and more. It snows."
    assert without(text, 4, 9) == "It rains. It snows."
    assert without(f"{WORDS} to the end", 0, 5) == ""
    assert without(f"A 3.5 mile road. Then {WORDS}! Yes.", 4, 9) == "A 3.5 mile road. Yes."


def test_options_and_answer_after_a_question_go_too() -> None:
    text = f"{WORDS}?\n(A) red\n(B) green\nCorrect answer: B\nThe rain began."
    assert without(text, 0, 5) == "The rain began."
    assert without(f"{WORDS}? A. Milne wrote more.", 0, 5) == "A. Milne wrote more.", "no option on the same line"


def test_a_border_before_is_looked_for_within_200_characters() -> None:
    for pad, left in ((197, "A. Tail."), (198, f"A. {'y' * 198} Tail.")):  # the passage begins at pad + 4
        assert without(f"A. {'y' * pad} {WORDS}. Tail.", 1, 6) == left, pad
    for pad, left in ((199, "Tail."), (200, f"{'y' * 200} Tail.")):
        assert without(f"{'y' * pad} {WORDS}. Tail.", 1, 6) == left, pad


def test_a_border_after_is_looked_for_within_200_characters() -> None:
    for pad, left in ((198, "Tail"), (199, f"{'y' * 199}. Tail")):
        assert without(f"{WORDS} {'y' * pad}. Tail", 0, 5) == left, pad
    for pad, left in ((199, ""), (200, "y" * 200)):
        assert without(f"{WORDS} {'y' * pad}", 0, 5) == left, pad


def test_a_quoted_passage_ends_with_its_own_sentence() -> None:
    for end in (".", '."', "?)", "!\u201d"):
        assert without(f"{WORDS}{end} Tail here. More.", 0, 5) == "Tail here. More.", end
    assert without(f"Before. {WORDS}.\nTail here.", 1, 6) == "Before.\nTail here."
    assert without(f"Before. {WORDS}. Tail.\nMore.", 1, 6) == "Before. Tail.\nMore."


def test_words_on_either_side_of_a_passage_stay() -> None:
    lines = [f"line{number} word{number}." for number in range(5)]
    for first in range(5):
        for last in range(first, 5):
            left = without("\n".join(lines), 2 * first, 2 * last + 1)
            assert left == "\n".join(lines[:first] + lines[last + 1 :]), (first, last)
