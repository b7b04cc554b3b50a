"""Settings of text extraction: what a file may cost, and a file that is fetched again."""

from __future__ import annotations

from typing import Any

import pytest

from conf.extraction import Extract


def extract(**settings: Any) -> Extract:
    return Extract.model_validate(settings)


@pytest.mark.parametrize(("fetched", "most"), [(1000, 1000), (999, 1000), (None, 1)])
def test_a_file_fetched_again_may_be_as_large_as_any(fetched: int | None, most: int) -> None:
    assert extract(max_bytes=most, refetch={"hosts": ["text.example.org"], "max_bytes": fetched}).max_bytes == most


def test_none_may_be_larger() -> None:
    with pytest.raises(ValueError, match=r"refetch\.max_bytes is 1001, above data\.extract\.max_bytes 1000"):
        extract(max_bytes=1000, refetch={"hosts": ["text.example.org"], "max_bytes": 1001})
    assert extract(max_bytes=1).refetch is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_bytes", 0), ("max_pages", 0), ("seconds", 0), ("memory_mb", 63), ("min_page_characters", 0)),
        *(("min_image_share", 0), ("min_image_share", 1.1), ("max_rejected_share", -0.1), ("max_rejected_share", 1.1)),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        extract(**{name: value})
