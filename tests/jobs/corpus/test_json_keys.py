"""A key that stands twice in one object, wherever the object is."""

from __future__ import annotations

import pytest

from jobs.corpus.json_keys import loads, repeated_key, sentence


@pytest.mark.parametrize(
    ("text", "field", "key"),
    [
        ('{"a": 1, "b": 2}', None, None),
        ('{"a": 1, "b": 2, "c": 3, "b": 4, "a": 5}', None, "a"),
        ('{"a": 1, "b": 2, "a": 3, "b": 4}', "b", "b"),
        ('{"a": 1, "b": 2, "a": 3}', "b", None),
        ('[1, {"x": {"b": 2, "c": 3, "c": 4}}]', None, "c"),
        ('[1, {"x": {"c": 3, "c": 4}}]', "c", None),
        ('{"x": {"c": 3, "c": 4}}', "c", None),
        ('"a"', None, None),
    ],
)
def test_the_key_of_the_field_or_any(text: str, field: str | None, key: str | None) -> None:
    assert repeated_key(loads(text), field) == key


def test_a_long_key_is_cut() -> None:
    assert sentence("k" * 61) == f"the key {'k' * 60!r} stands twice in one object"
