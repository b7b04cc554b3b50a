"""Each of Gopher's measures, counted by hand: a document at the bound stays, one beyond it does not."""

from __future__ import annotations

from typing import Any

import pytest

from conf.filters import Gopher
from jobs.curation import gopher
from jobs.curation.prose import Prose

OFF = {name: None for name in Gopher.model_fields if name != "stop_words"}


def broken(text: str, **bounds: Any) -> list[tuple[str, float]]:
    return [(rule, value) for rule, value in gopher.broken(Prose(text), Gopher.model_validate(OFF | bounds))]


@pytest.mark.parametrize(
    ("rule", "text", "value", "beyond"),
    [
        ("min_words", "aa bb . ! ?", 2, 3),
        ("min_words", "aa aa bb", 3, 4),
        ("max_words", "aa bb aa . !", 3, 2),
        ("min_word_length", "a bbb .", 2, 2.01),
        ("min_word_length", "a a bbbb ,", 2, 2.01),
        ("max_word_length", "a a bbbb ,", 2, 1.99),
        ("max_hashes", "# a b c", 1 / 4, 0.24),
        ("max_hashes", "## a b", 2 / 4, 0.49),
        ("max_ellipses", "a ... b …", 2 / 4, 0.49),
        ("max_bullet_lines", "• a\n  - b\nc - d\nd", 2 / 4, 0.49),
        ("max_ellipsis_lines", "a...\nb… \nc ... c\nd", 2 / 4, 0.49),
        ("max_hashes", "#", 1, 0.99),
        ("max_bullet_lines", "• a", 1, 0.99),
        ("max_ellipsis_lines", "a...", 1, 0.99),
        ("min_alphabetic_words", "a 1 2b !", 2 / 4, 0.51),
        ("min_alphabetic_words", "a a a 1_", 3 / 4, 0.76),
        ("min_alphabetic_words", "é 1 1 1", 1 / 4, 0.26),
        ("min_stop_words", "the of the x The", 2, 3),
    ],
)
def test_at_its_bound_a_document_stays(rule: str, text: str, value: float, beyond: float) -> None:
    assert broken(text, **{rule: value}) == []
    assert broken(text, **{rule: beyond}) == [(rule, value)]


def test_stop_words_are_those_of_the_setting() -> None:
    assert broken("der und the of", stop_words=("der", "und", "die"), min_stop_words=2) == []
    assert broken("der the of", stop_words=("der", "und"), min_stop_words=2) == [("min_stop_words", 1)]


def test_without_words_only_their_number_is_told() -> None:
    assert broken("... !", min_words=1, min_word_length=3, max_word_length=3) == [("min_words", 0)]


def test_an_empty_text_has_no_shares() -> None:
    bounds = {"max_hashes": 0, "max_ellipses": 0, "max_bullet_lines": 0, "max_ellipsis_lines": 0}
    assert broken("", **bounds, min_alphabetic_words=0.1) == [("min_alphabetic_words", 0)]


def test_the_only_word_is_all_of_them() -> None:
    assert broken("a", min_alphabetic_words=1) == []
    assert broken("1", min_alphabetic_words=1) == [("min_alphabetic_words", 0)]
