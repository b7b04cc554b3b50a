"""The report shows what was taken out of a corpus, step by step, and samples of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.report.markdown import sections as written
from tasks.report.sections.filters import sections
from tasks.report.sections.text import read_text

SPLITS = {"train": {"documents": 50, "tokens": 900}}
RULES = {
    "gopher.min_words": {"bound": 50, "first": 30, "broken": 33, "alone": 12},
    "c4.lorem_ipsum": {"bound": True, "first": 7, "broken": 7, "alone": 7},
}
DATA = {
    "splits": SPLITS,
    "records": 100,
    "quarantined": 3,
    "duplicates_across_splits": 4,
    "filtered": {"action": "remove", "rules": RULES},
    "deduplicated": {"same_words": 5, "similar": 1},
}


def shown(folder: Path, statistics: dict[str, Any], samples: list[dict[str, Any]]) -> dict[str, Any]:
    (folder / "statistics.json").write_text(json.dumps(statistics))
    (folder / "filtered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return {section.title: section for section in sections(read_text({"data": str(folder)}))}


def test_the_steps_lead_from_all_to_what_is_kept(tmp_path: Path) -> None:
    steps = shown(tmp_path, DATA, [])["The text, step by step"].rows
    assert [row[1:] for row in steps] == [
        ("read", "100", "100.0%", "100"),
        ("in quarantine", "-3", "3.0%", "97"),
        ("in another split too", "-4", "4.0%", "93"),
        ("gopher.min_words 50", "-30", "30.0%", "63"),
        ("c4.lorem_ipsum", "-7", "7.0%", "56"),
        ("the same words as another", "-5", "5.0%", "51"),
        ("similar to another", "-1", "1.0%", "50"),
        ("kept", "50", "50.0%", "50"),
    ]


def test_files_without_text_are_told_apart_in_quarantine(tmp_path: Path) -> None:
    extracted = {"quarantined": {"damaged": 2}}
    steps = shown(tmp_path, DATA | {"extracted": extracted}, [])["The text, step by step"].rows
    assert [row[1:3] for row in steps[1:3]] == [("no text taken: damaged", "-2"), ("in quarantine", "-1")]


def test_records_have_steps_too(tmp_path: Path) -> None:
    records = {
        "splits": SPLITS,
        "read": 100,
        "records": 50,
        "quarantined": 3,
        "repeats": 2,
        "prompts_of_another_split": 1,
        "filtered": {"action": "remove", "rules": RULES},
        "decontaminated": {"removed": 4},
        "deduplicated": {"same_words": 2, "similar": 1},
    }
    (tmp_path / "statistics.json").write_text(json.dumps(records))
    found = {section.title: section for section in sections(read_text({"records": str(tmp_path)}))}
    assert [row[:3] for row in found["The text, step by step"].rows] == [
        ("records", "read", "100"),
        ("records", "in quarantine", "-3"),
        ("records", "the same record again", "-2"),
        ("records", "a prompt of a held-out split", "-1"),
        ("records", "gopher.min_words 50", "-30"),
        ("records", "c4.lorem_ipsum", "-7"),
        ("records", "a benchmark question", "-4"),
        ("records", "the same words as another", "-2"),
        ("records", "similar to another", "-1"),
        ("records", "kept", "50"),
    ]


def test_rules_that_only_report_take_nothing(tmp_path: Path) -> None:
    parts = shown(tmp_path, DATA | {"filtered": {"action": "report", "rules": RULES}}, [])
    assert [row[1] for row in parts["The text, step by step"].rows][3] == "the same words as another"
    assert parts["What each rule would remove"].rows == (
        ("data", "gopher.min_words 50", "33", "33.0%", "12", "30"),
        ("data", "c4.lorem_ipsum", "7", "7.0%", "7", "7"),
    )


def test_samples_are_few_and_harmless(tmp_path: Path) -> None:
    rows = [
        {"file": "/a/b.jsonl", "line": line, "rule": "gopher.min_words", "value": 7, "text": "<b>x</b> | `y`"}
        for line in range(1, 9)
    ]
    rows.append({"file": "c.txt", "line": 2, "rule": "pii.emails", "text": "to <EMAIL>"})
    part = shown(tmp_path, DATA, rows)["Samples of filtered text"]
    assert len(part.rows) == 6
    assert part.rows[0] == ("data", "gopher.min_words", "7", "b.jsonl:1", "<b>x</b> | `y`")
    assert part.rows[-1] == ("data", "pii.emails", "", "c.txt:2", "to <EMAIL>")
    assert "&lt;b&gt;x&lt;/b&gt; \\| \\`y\\`" in "\n".join(written([part]))


def test_without_filters_there_are_no_steps(tmp_path: Path) -> None:
    assert shown(tmp_path, {"splits": SPLITS, "quarantined": 0}, []) == {}
    counted = {"splits": SPLITS, "quarantined": 1, "records": 51, "duplicates_across_splits": 0}
    assert shown(tmp_path, counted, []) == {}


PARTS: dict[str, dict[str, Any]] = {
    "filtered": {"filtered": {"action": "remove", "rules": {}}},
    "deduplicated": {"deduplicated": {"similar": 2}},
    "decontaminated": {"decontaminated": {"removed": 2}},
    "extracted": {"extracted": {"quarantined": {}}},
}


@pytest.mark.parametrize("part", PARTS)
def test_any_block_has_steps(part: str, tmp_path: Path) -> None:
    bare = {"splits": SPLITS, "quarantined": 0}
    found = shown(tmp_path, bare | {"records": 9, "duplicates_across_splits": 0} | PARTS[part], [])
    assert found["The text, step by step"].rows[0][1:3] == ("read", "9")
    records = shown(tmp_path, bare | {"records": 7, "read": 9} | PARTS[part], [])
    assert records["The text, step by step"].rows[0][1:3] == ("read", "9"), "not those that were kept"
    for before_they_were_counted in ({"records": 7}, {"duplicates_across_splits": 0}):
        assert shown(tmp_path, bare | before_they_were_counted | PARTS[part], []) == {}


def test_recognized_and_fetched_files_are_notes(tmp_path: Path) -> None:
    ocr = {"engine": "tesseract 5", "pages": 1200, "characters": 5000, "seconds": 2.25, "failed": {"too slow": 3}}
    fetched = {"cut": 1003, "fetched": 1002, "bytes": 4096, "failed": {"status 404": 1}, "seconds": 1.04}
    extracted = {"quarantined": {}, "ocr": ocr, "refetched": fetched}
    assert shown(tmp_path, DATA | {"extracted": extracted}, [])["The text, step by step"].notes == (
        "data: 1,203 PDF pages are images: 1,200 read by tesseract 5 (5,000 characters), 3 without text (too slow);"
        " 2.2 s.",
        "data: 1,003 PDF files of archives are cut: 1,002 fetched again (4,096 bytes), 1 not (status 404); 1.0 s.",
    )
    none = {"quarantined": {}, "ocr": {"pages": 0, "failed": {}}, "refetched": {}}
    assert shown(tmp_path, DATA | {"extracted": none}, [])["The text, step by step"].notes == ()
