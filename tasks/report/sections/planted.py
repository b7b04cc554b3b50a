"""The report's section on dirt that was planted in the invented world, and what curation found of it."""

from __future__ import annotations

from typing import Any

from conf.report.section import Section
from conf.report.text import PlantedCounts, TextCounts

STEPS = {"read": "as unusable", "filter": "by filters", "decontaminate": "as questions", "deduplicate": "as repeating"}
"""Steps of curation by the name that statistics.json gives them."""


def read_planted(statistics: dict[str, Any]) -> dict[str, Any]:
    """Fields of TextCounts that a data stage of a soiled world fills."""
    held_out = statistics.get("held_out") or {}
    kinds = statistics.get("planted") or {}
    return {
        "planted": tuple(PlantedCounts(kind=kind, **counts) for kind, counts in kinds.items()),
        "held_out_repeated": held_out.get("repeated"),
    }


def section(texts: dict[str, TextCounts]) -> Section | None:
    """The section; None where nothing was planted in a text that was curated."""
    curated = {label: counts for label, counts in texts.items() if counts.planted and counts.held_out_repeated is None}
    if not curated:
        return None
    rows = [_row(label, one) for label, counts in curated.items() for one in counts.planted]
    return Section(
        title="Planted and found",
        sentences=tuple(
            f"{label}: its training text keeps the dirt; {counts.held_out_repeated:,} of its documents repeat one of"
            " the held-out text that both are tested on."
            for label, counts in texts.items()
            if counts.held_out_repeated is not None
        ),
        header=("corpus", "kind", "planted", *STEPS.values(), "left", "taken"),
        rows=tuple(rows),
        notes=(
            "clean are the world's own documents: those taken by filters or as questions are mistakes, and those taken"
            " as repeating have a double among themselves. A copy counts as found where it or its original was taken.",
        ),
    )


def _row(label: str, one: PlantedCounts) -> tuple[str, ...]:
    taken = [f"{one.taken.get(step, 0):,}" for step in STEPS]
    share = (one.planted - one.left) / one.planted
    return (label, one.kind.replace("_", " "), f"{one.planted:,}", *taken, f"{one.left:,}", f"{share:.1%}")
