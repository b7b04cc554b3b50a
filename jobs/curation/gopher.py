"""Gopher's rules on words and lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conf.filters import Gopher
from jobs.curation.prose import PUNCTUATION, Broken, Prose

LETTER = re.compile(r"[^\W\d_]")
BULLETS, ELLIPSES = ("•", "-"), ("...", "…")


def broken(document: Prose, rules: Gopher) -> Iterator[Broken]:
    """The rules that a document breaks, in order."""
    times = document.times
    proper = [(len(word), count) for word, count in times.items() if not PUNCTUATION.issuperset(word)]
    number = sum(count for _, count in proper)
    if rules.min_words is not None and number < rules.min_words:
        yield Broken("min_words", number)
    if rules.max_words is not None and number > rules.max_words:
        yield Broken("max_words", number)
    mean = sum(length * count for length, count in proper) / number if number else 0.0
    if number and rules.min_word_length is not None and mean < rules.min_word_length:
        yield Broken("min_word_length", mean)
    if number and rules.max_word_length is not None and mean > rules.max_word_length:
        yield Broken("max_word_length", mean)
    yield from _broken_by_signs(document, rules)
    yield from _broken_by_lines(document.text.splitlines(), rules)
    yield from _broken_by_words(document, rules)


def _broken_by_signs(document: Prose, rules: Gopher) -> Iterator[Broken]:
    text, words = document.text, max(1, len(document.words))
    if rules.max_hashes is not None and (hashes := text.count("#") / words) > rules.max_hashes:
        yield Broken("max_hashes", hashes)
    if rules.max_ellipses is not None and (ellipses := sum(map(text.count, ELLIPSES)) / words) > rules.max_ellipses:
        yield Broken("max_ellipses", ellipses)


def _broken_by_lines(lines: list[str], rules: Gopher) -> Iterator[Broken]:
    count = max(1, len(lines))
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines) / count
    if rules.max_bullet_lines is not None and bullets > rules.max_bullet_lines:
        yield Broken("max_bullet_lines", bullets)
    ends = sum(line.rstrip().endswith(ELLIPSES) for line in lines) / count
    if rules.max_ellipsis_lines is not None and ends > rules.max_ellipsis_lines:
        yield Broken("max_ellipsis_lines", ends)


def _broken_by_words(document: Prose, rules: Gopher) -> Iterator[Broken]:
    times, words = document.times, document.words
    if rules.min_alphabetic_words is not None:
        alphabetic = sum(count for word, count in times.items() if word.isalpha() or LETTER.search(word)) / max(
            1, len(words)
        )
        if alphabetic < rules.min_alphabetic_words:
            yield Broken("min_alphabetic_words", alphabetic)
    if rules.min_stop_words is not None:
        there = len(times.keys() & set(rules.stop_words))
        if there < rules.min_stop_words:
            yield Broken("min_stop_words", there)
