"""What a recipe's values take from others before they are checked: an extended file's, and the recipe's own sections.

Works on plain values, so that a recipe which states everything stays as it is."""

from __future__ import annotations

from typing import Any

TAUGHT = ("distill", "sft")
"""Sections of a student that state only what differs from the recipe's section of the same name."""


RANGE = {"low", "high", "log"}
"""Keys of a range in the space of a study."""


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`: mappings merge, other values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def layered(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge the values of a recipe or an override into those that it extends. A format that `over` only names keeps the
    settings of `base`."""
    named = over.get("quantize")
    if isinstance(named, list):
        current = base.get("quantize")
        entries = [entry for entry in current if isinstance(entry, dict)] if isinstance(current, list) else []
        known = {str(entry.get("format")): entry for entry in entries}
        formats = [known.get(entry, {"format": entry}) if isinstance(entry, str) else entry for entry in named]
        over = over | {"quantize": formats}
    return merge(base, over)


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """The values with formats as sections, without removed students (null), with each student's training sections
    laid over the recipe's, and the space of a study by dotted key."""
    values = layered({}, values)
    if isinstance(study := values.get("study"), dict) and isinstance(study.get("space"), dict):
        values = values | {"study": study | {"space": _tried(study["space"])}}
    students = values.get("students")
    if not isinstance(students, dict):
        return values
    taught = {
        name: _taught(student, values) if isinstance(student, dict) else student
        for name, student in students.items()
        if student is not None
    }
    return values | {"students": taught}


def _tried(space: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The space of a study by dotted key, however it is nested; without keys that were removed (null)."""
    keys: dict[str, Any] = {}
    for name, tried in space.items():
        section = isinstance(tried, dict) and tried and not RANGE & tried.keys()
        keys |= _tried(tried, f"{prefix}{name}.") if section else {f"{prefix}{name}": tried}
    return {key: tried for key, tried in keys.items() if tried is not None or prefix}


def _taught(student: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """A student's values; those of its rounds are laid over its own."""
    student = student | {name: _over(recipe.get(name), student[name]) for name in TAUGHT if student.get(name)}
    rounds, distill = student.get("rounds"), student.get("distill") or recipe.get("distill")
    if isinstance(rounds, list):
        rounds = [
            round_ | {"distill": _over(distill, round_["distill"])}
            if isinstance(round_, dict) and round_.get("distill")
            else round_
            for round_ in rounds
        ]
        student = student | {"rounds": rounds}
    return student


def _over(base: Any, own: Any) -> Any:
    return merge(base, own) if isinstance(base, dict) and isinstance(own, dict) else own
