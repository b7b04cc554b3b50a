"""Keys that one JSON object holds twice, of which every parser silently keeps the last."""

from __future__ import annotations

import json
from typing import Any


class Repeating(dict[str, Any]):
    """An object with a key twice; `repeated` are those keys."""

    repeated: tuple[str, ...] = ()


def loads(text: str) -> Any:
    """As `json.loads`, with objects that hold a key twice as `Repeating`. Raises ValueError or RecursionError."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    repeating = Repeating(found)
    repeating.repeated = tuple(name for name in found if names.count(name) > 1)
    return repeating


def repeated_key(value: Any, field: str | None) -> str | None:
    """A key that stands twice in a value of `loads`: `field` in the outermost object, or any key of any object."""
    if isinstance(value, Repeating):
        if field is None:
            return value.repeated[0]
        if field in value.repeated:
            return field
    if field is None and isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return next((key for each in inner if (key := repeated_key(each, None)) is not None), None)
    return None


def sentence(key: str) -> str:
    """Why such an object cannot be read."""
    return f"the key {key[:60]!r} stands twice in one object"
