"""What a recipe's values take from others before they are checked: an extended file's, and the recipe's own sections.

Works on plain values, so that a recipe which states everything stays as it is."""

from __future__ import annotations

from typing import Any

TAUGHT = ("distill", "sft")
"""Sections of a student that state only what differs from the recipe's section of the same name."""


MOST_SEEDS = 10
"""Seeds of one student at most."""
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
    laid over the recipe's, its branches and its copies with further seeds, and the space of a study by dotted key."""
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
    return values | {"students": _with_seeds(_with_branches(taught, values), values)}


def _tried(space: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The space of a study by dotted key, however it is nested; without keys that were removed (null)."""
    keys: dict[str, Any] = {}
    for name, tried in space.items():
        section = isinstance(tried, dict) and tried and not RANGE & tried.keys()
        keys |= _tried(tried, f"{prefix}{name}.") if section else {f"{prefix}{name}": tried}
    return {key: tried for key, tried in keys.items() if tried is not None or prefix}


def _with_branches(students: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The students, each followed by its branches of fewer steps."""
    all_students: dict[str, Any] = {}
    for name, student in students.items():
        all_students[name] = student
        branches = student.get("branches") if isinstance(student, dict) else None
        for steps in branches if isinstance(branches, list | tuple) else ():
            if type(steps) is int and (distill := student.get("distill") or recipe.get("distill")):
                copy = f"{name}-{steps}"
                all_students[copy] = students.get(copy, _branch(name, student, distill, steps))
    return all_students


def _branch(name: str, student: dict[str, Any], distill: Any, steps: int) -> dict[str, Any]:
    changed = {key: value for key, value in student.items() if key != "branches"}
    return changed | {"branch_of": name, "distill": _over(distill, {"steps": steps})}


def _with_seeds(students: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The students, each followed by its copies with further seeds if it asks for several."""
    all_students: dict[str, Any] = {}
    for name, student in students.items():
        all_students[name] = student
        seeds = student.get("seeds", 1) if isinstance(student, dict) else 1
        for number in range(2, seeds + 1 if type(seeds) is int and seeds <= MOST_SEEDS else 2):
            copy = f"{name}-s{number}"
            all_students[copy] = students.get(copy, _shifted(name, student, recipe, number - 1))
    return all_students


def _shifted(name: str, student: dict[str, Any], recipe: dict[str, Any], shift: int) -> dict[str, Any]:
    """The student `name` with seeds that are higher by `shift`; its branches have copies of their own."""
    changed = {key: value for key, value in student.items() if key not in ("seeds", "branches")}
    if isinstance(student.get("branches"), list | tuple):
        changed["branch_of"] = name
    for part in TAUGHT:
        section = student.get(part) or recipe.get(part)
        if isinstance(section, dict):
            changed[part] = _later(section, shift)
    if isinstance(prune := student.get("prune"), dict):
        changed["prune"] = _drawn(prune, shift)
    if isinstance(rounds := student.get("rounds"), list):
        changed["rounds"] = [_shifted_round(each, shift) if isinstance(each, dict) else each for each in rounds]
    return changed


def _shifted_round(round_: dict[str, Any], shift: int) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if isinstance(prune := round_.get("prune"), dict):
        parts["prune"] = _drawn(prune, shift)
    if isinstance(distill := round_.get("distill"), dict):
        parts["distill"] = _later(distill, shift)
    return round_ | parts


def _drawn(prune: dict[str, Any], shift: int) -> dict[str, Any]:
    """A cut with its seed raised where it draws at random."""
    return _later(prune, shift) if prune.get("ranking") == "random" or prune.get("reinitialize") else prune


def _later(section: dict[str, Any], shift: int) -> dict[str, Any]:
    seed = section.get("seed", 1)
    return section | {"seed": seed + shift} if type(seed) is int else section


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
