"""Cuts a passage out of a text, from its first to its last word and on to where its sentences end."""

from __future__ import annotations

import re

from jobs.curation.question_index import kept_words

CHUNK = re.compile(r"\S+")
BORDER = re.compile(r"[.?!][\"'\u201d\u2019)]*(?=\s|$)|\n")
"""Where a sentence or a line ends."""
REACH = 200
"""Characters within which a sentence's border is looked for; farther away it is not the question's."""
OPTION = re.compile(r"\s*(?:\(?[A-Ja-j1-9][.):]\s|(?:correct\s+)?answer\b)[^\n]*(?:\n|$)", re.IGNORECASE)
"""A line with an option of a question, or with its answer."""
REST = re.compile(r"[ \t]*\n")


def without(text: str, first_word: int, last_word: int) -> str:
    """The text without its words from `first_word` to `last_word` (as `kept_words` counts them), the rest of their
    sentences, and the options and answer in the lines that follow."""
    start, end = _span(text, first_word, last_word)
    start, end = _start(text, start), _end(text, end)
    before, after = text[:start].rstrip(), text[end:].lstrip()
    lines = "\n" in text[len(before) : len(text) - len(after)]
    return before + ("\n" if lines else " ") + after if before and after else before + after


def _span(text: str, first_word: int, last_word: int) -> tuple[int, int]:
    """Characters from the first word to the last, with the signs that stand at them without a space."""
    number, start = 0, 0
    for chunk in CHUNK.finditer(text):
        words = len(kept_words(chunk[0]))
        if number <= first_word < number + words:
            start = chunk.start()
        if number <= last_word < number + words:
            return start, chunk.end()
        number += words
    raise AssertionError(f"the text has {number} words, not {last_word + 1}")


def _start(text: str, start: int) -> int:
    near = max(0, start - REACH)
    borders = [found.end() for found in BORDER.finditer(text, near, start)]
    return borders[-1] if borders else start if near else 0


def _end(text: str, end: int) -> int:
    # A sentence may end with the passage itself.
    if not (border := BORDER.search(text, max(0, end - 2), end + REACH)):
        return len(text) if len(text) <= end + REACH else end
    end = max(end, border.end())
    if text[end - 1] != "\n":
        if not (rest := REST.match(text, end)):
            return end
        end = rest.end()
    while end < len(text) and (option := OPTION.match(text, end)):
        end = option.end()
    return end
