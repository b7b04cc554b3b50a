"""Gopher's rules on text that repeats itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from conf.filters import Repetition
from jobs.curation.prose import Broken, Prose, repeated
from jobs.curation.words import mixed

PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")
TOP, LONG = (2, 3, 4), (5, 6, 7, 8, 9, 10)
"""Lengths of runs of words: the most frequent run is looked at, and all runs that occur again."""

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def broken(document: Prose, rules: Repetition) -> Iterator[Broken]:
    """The rules that a document breaks, in order."""
    text = document.text
    for noun, parts in (
        ("paragraph", lambda: PARAGRAPHS.split(text.strip())),
        ("line", lambda: LINES.split(text)),
    ):
        most, most_characters = f"max_repeated_{noun}s", f"max_repeated_{noun}_characters"
        bounds = getattr(rules, most), getattr(rules, most_characters)
        if bounds == (None, None):
            continue
        all_parts = parts()
        number, characters = repeated(all_parts)
        shares = number / len(all_parts), characters / len(text)
        for rule, share, bound in zip((most, most_characters), shares, bounds, strict=True):
            if bound is not None and share > bound:
                yield Broken(rule, share)
    yield from _broken_by_runs(document, rules)


def _broken_by_runs(document: Prose, rules: Repetition) -> Iterator[Broken]:
    """The rules on runs of words. Where no run occurs twice, no longer one does."""
    bounds = {n: getattr(rules, f"max_top_{n}_gram") for n in TOP}
    bounds |= {n: getattr(rules, f"max_repeated_{n}_grams") for n in LONG}
    longest = max((n for n, bound in bounds.items() if bound is not None), default=0)
    words, size = document.words, len(document.text)
    # Equal words have equal hashes within a process, and no more is asked of them.
    ids = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    ends = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=ends[1:])
    runs, most, again = mixed(np.zeros(len(ids), np.uint64), ids), len(ids), len(ids)
    longest_word = max(map(len, words), default=0)
    for n in range(2, min(longest, len(words)) + 1):
        runs = mixed(runs[:-1], ids[n - 1 :])
        most, again = _times(runs) if again else (1, 0)
        if not again and n > TOP[-1]:
            return
        bound, most_characters = bounds[n], n * longest_word + n - 1
        # Few documents come near a bound; only for those the runs are told apart.
        if bound is None or (most if n in TOP else again) * most_characters <= bound * size:
            continue
        count = _top if n in TOP else _repeated
        share = count(runs, ends[n:] - ends[:-n], n) / size
        if share > bound:
            yield Broken(f"max_top_{n}_gram" if n in TOP else f"max_repeated_{n}_grams", share)


def _times(runs: Hashes) -> tuple[int, int]:
    """How often the most frequent run occurs, and how many runs occurred before."""
    ordered = np.sort(runs)
    last = np.flatnonzero(ordered[1:] != ordered[:-1])
    again = len(runs) - 1 - len(last)
    if not again or not len(last):
        return again + 1, again
    between = int((last[1:] - last[:-1]).max()) if len(last) > 1 else 0
    return max(between, int(last[0]) + 1, len(runs) - 1 - int(last[-1])), again


def _top(runs: Hashes, characters: Numbers, n: int) -> int:
    """Characters of all occurrences of the most frequent run, with the spaces between its words; of the first run where
    several are."""
    _, firsts, counts = np.unique(runs, return_index=True, return_counts=True)
    most = int(counts.max())
    return (int(characters[firsts[counts == most].min()]) + n - 1) * most


def _repeated(runs: Hashes, characters: Numbers, n: int) -> int:
    """Characters of the runs that occurred before, read from the start; none of them overlap."""
    _, groups = np.unique(runs, return_inverse=True)
    numbers, seen, found, place = groups.tolist(), bytearray(len(runs)), 0, 0
    while place < len(numbers):
        if seen[numbers[place]]:
            found += int(characters[place])
            place += n
        else:
            seen[numbers[place]] = 1
            place += 1
    return found
