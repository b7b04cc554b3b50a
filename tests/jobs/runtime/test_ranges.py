"""Integers in short form."""

from __future__ import annotations

import pytest

from jobs.runtime.ranges import depth_entry, ranges


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([1, 2], "1-2"),
        ([9, 1, 3, 2, 7, 10, 12], "1-3, 7, 9-10, 12"),
        ([0, 2, 4], "0, 2, 4"),
    ],
)
def test_neighbours_are_joined(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_named_depth_has_no_scores() -> None:
    assert depth_entry([1, 2, 4], 5) == {"of": 5, "count": 3, "ranges": "1-2, 4", "share": None, "gini": None}
