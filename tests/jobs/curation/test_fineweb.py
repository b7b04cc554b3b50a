"""Each of FineWeb's measures, counted by hand: a document at the bound stays, one beyond it does not."""

from __future__ import annotations

from typing import Any

import pytest

from conf.filters import FineWeb
from jobs.curation import fineweb
from jobs.curation.prose import Prose

OFF = {name: None for name in FineWeb.model_fields if name != "short_line"}


def broken(text: str, **bounds: Any) -> list[tuple[str, float]]:
    return [(rule, value) for rule, value in fineweb.broken(Prose(text), FineWeb.model_validate(OFF | bounds))]


@pytest.mark.parametrize(
    ("rule", "text", "value", "beyond"),
    [
        ("min_punctuated_lines", "a.\nb\n \nc,\n\nd!", 2 / 4, 0.51),
        ("min_punctuated_lines", ".a\nb。", 1 / 2, 0.51),
        ("max_short_lines", f"{'a' * 30}\n{'a' * 31}\n\n", 1 / 2, 0.49),
        ("max_short_lines", "abc", 1, 0.99),
        ("max_repeated_characters", "ab\ncd\nab", 2 / 6, 0.33),
        ("max_repeated_characters", "ab\n\nab\n \nab", 4 / 7, 0.57),
        ("max_line_ends", "a b\nc d", 1 / 4, 0.24),
        ("max_line_ends", "a.\nb.\n", 2 / 4, 0.49),
    ],
)
def test_at_its_bound_a_document_stays(rule: str, text: str, value: float, beyond: float) -> None:
    assert broken(text, **{rule: value}) == []
    assert broken(text, **{rule: beyond}) == [(rule, value)]


def test_short_lines_are_those_of_the_setting() -> None:
    assert broken("abc\nabcd\nabcde", short_line=4, max_short_lines=0.6) == [("max_short_lines", 2 / 3)]
    assert broken("abc\nabcd\nabcde", short_line=3, max_short_lines=0.3) == [("max_short_lines", 1 / 3)]


def test_signs_count_as_words_between_line_ends() -> None:
    assert broken("a.\nb.", max_line_ends=0.3) == []  # one end for four words, though for two parts


def test_text_without_words_or_lines() -> None:
    bounds = {"max_short_lines": 0, "max_repeated_characters": 0, "min_punctuated_lines": 0.1}
    assert broken("", **bounds) == [("min_punctuated_lines", 0)]
    assert broken("\n", max_line_ends=0.3) == [("max_line_ends", 1)]
