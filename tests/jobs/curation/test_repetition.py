"""Each share of repeated text, counted by hand: a document at the bound stays, one just above it does not."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from conf.filters import Repetition
from jobs.curation import repetition
from jobs.curation.prose import Prose

OFF = dict.fromkeys(Repetition.model_fields)
RUN = list("abcdefghij")


def broken(text: str, rule: str, bound: float) -> list[tuple[str, float]]:
    rules = Repetition.model_validate(OFF | {rule: bound})
    return [(name, value) for name, value in repetition.broken(Prose(text), rules)]


def check(text: str, rule: str, share: float) -> None:
    assert broken(text, rule, share) == []
    assert broken(text, rule, share - 0.001) == [(rule, share)]


@pytest.mark.parametrize(
    ("text", "part", "number", "characters"),
    [
        ("ab\n\ncd\n\nab\n\nefg", "paragraph", 1 / 4, 2 / 15),
        ("\n\nab\n\n\ncd\n\n\n\nab\n\n", "paragraph", 1 / 3, 2 / 17),
        ("ab\nab\n\nab", "paragraph", 0, 0),
        ("ab\n\n\nab\nab\ncd", "line", 2 / 4, 4 / 13),
        ("ab\nab\n", "line", 1 / 3, 2 / 6),
    ],
)
def test_repeated_parts(text: str, part: str, number: float, characters: float) -> None:
    for rule, share in ((f"max_repeated_{part}s", number), (f"max_repeated_{part}_characters", characters)):
        if share:
            check(text, rule, share)
        else:
            assert broken(text, rule, 0) == []


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_most_frequent_run(n: int) -> None:
    text = " ".join([*RUN[:n], "z", *RUN[:n]])  # n letters and n - 1 spaces, twice
    check(text, f"max_top_{n}_gram", 2 * (2 * n - 1) / (4 * n + 1))


def test_a_run_that_occurs_once_is_the_most_frequent() -> None:
    check("a bb ccc", "max_top_2_gram", 4 / 8)
    check("a bb ccc dddd", "max_top_4_gram", 13 / 13)


def test_of_equally_frequent_runs_the_first_counts() -> None:
    check("bbb c x bbb c y a a a", "max_top_2_gram", 2 * 5 / 21)
    check("a a a x bbb c y bbb c", "max_top_2_gram", 2 * 3 / 21)


@pytest.mark.parametrize("n", range(5, 11))
def test_runs_that_occurred_before(n: int) -> None:
    text = " ".join([*RUN[:n], "z", *RUN[:n]])  # n letters without their spaces, once
    check(text, f"max_repeated_{n}_grams", n / (4 * n + 1))


def test_repeated_runs_do_not_overlap() -> None:
    check(" ".join("a" * 12), "max_repeated_5_grams", 10 / 23)  # words 1 to 5 and 6 to 10


def test_runs_longer_than_the_text_break_nothing() -> None:
    assert broken("a b c d", "max_repeated_5_grams", 0) == []
    assert broken("a", "max_top_2_gram", 0) == []


def test_all_rules_in_their_order() -> None:
    text = "\n\n".join([" ".join(RUN)] * 3)
    rules = Repetition.model_validate(dict.fromkeys(Repetition.model_fields, 0.0))
    assert [rule for rule, _ in repetition.broken(Prose(text), rules)] == list(Repetition.model_fields)


@pytest.mark.parametrize("size", range(1, 6))
def test_times_of_runs(size: int) -> None:
    for runs in itertools.product(range(3), repeat=size):
        counts = Counter(runs)
        expected = max(counts.values()), sum(count - 1 for count in counts.values())
        assert repetition._times(np.array(runs, np.uint64)) == expected, runs
