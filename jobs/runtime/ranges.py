"""Sorted integers in short form: which layers or channels are left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def ranges(numbers: Iterable[int]) -> str:
    """Sorted integers in short form: 1-3, 7, 9-12."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def depth_entry(layers: list[int], total: int) -> dict[str, Any]:
    """The depth's entry of kept.json where layers were named rather than ranked, so that nothing was scored."""
    return {"of": total, "count": len(layers), "ranges": ranges(layers), "share": None, "gini": None}
