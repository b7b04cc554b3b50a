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
