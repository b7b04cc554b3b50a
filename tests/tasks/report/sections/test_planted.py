"""What the report says of dirt that was planted in the invented world."""

from __future__ import annotations

from conf.report.text import TextCounts
from tasks.report.sections.planted import read_planted, section

KINDS = {
    "clean": {"planted": 1000, "taken": {"filter": 10}, "left": 990},
    "near_copies": {"planted": 300, "taken": {"filter": 5, "deduplicate": 250}, "left": 45},
}


def counts(**statistics: object) -> TextCounts:
    return TextCounts(kept={}, tokens={}, quarantined=0, **read_planted(statistics))


def test_planted_and_found_stand_side_by_side() -> None:
    found = section({"data": counts(planted=KINDS)})
    assert found
    assert found.header == (
        "corpus", "kind", "planted", "as unusable", "by filters", "as questions", "as repeating", "left", "taken"
    )  # fmt: skip
    assert found.rows == (
        ("data", "clean", "1,000", "0", "10", "0", "0", "990", "1.0%"),
        ("data", "near copies", "300", "0", "5", "0", "250", "45", "85.0%"),
    )
    assert found.sentences == ()


def test_raw_text_says_what_leaks_from_held_out_text() -> None:
    raw = counts(planted=KINDS, held_out={"own": 9, "shared": 7, "repeated": 1234})
    found = section({"data": counts(planted=KINDS), "data-raw": raw})
    assert found
    assert {row[0] for row in found.rows} == {"data"}
    assert found.sentences == (
        "data-raw: its training text keeps the dirt; 1,234 of its documents repeat one of the held-out text that both"
        " are tested on.",
    )


def test_text_without_soil_has_no_section() -> None:
    assert section({"data": counts()}) is None
