"""The bounds on what cannot be used: of records, and of files that text is taken from."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.corpus.extract_counts import Extracted, reason_of
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.readers import Document


def bad(line: int, reason: str = "no field text", lines: int = 1) -> Document:
    return Document("a.jsonl", line, None, reason, "{}", lines)


def test_at_its_share_bad_records_are_borne(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "q.jsonl", 0.25, lambda record: f" at {record.line}") as quarantine:
        quarantine.add(bad(7, "line 7 has 12 fields", lines=2))
        quarantine.check(3)
        quarantine.add(bad(9, "line 9 has 3 fields"))
        assert (quarantine.records, quarantine.lines) == (2, 3)
        assert quarantine.reasons == {"line N has N fields": 2}
        quarantine.check(6)
        with pytest.raises(
            ValueError, match=r"2 of 7 records \(28.6%\) cannot be used, above max_rejected_share 25.0%"
        ):
            quarantine.check(5)
        with pytest.raises(ValueError, match=r"the first is a.jsonl:7 \(line 7 has 12 fields at 7\)"):
            quarantine.check(0)


def test_records_apart_have_a_bound_of_their_own(tmp_path: Path) -> None:
    with Quarantine(tmp_path / "q.jsonl", 0.0) as quarantine:
        quarantine.check(0)
        quarantine.add(bad(1, "page 3: no text in 4"), apart=True)
        quarantine.check(0)
        assert (quarantine.records, quarantine.apart, quarantine.first) == (1, 1, None)
        assert quarantine.reasons == {"page N": 1}
        quarantine.add(bad(2))
        with pytest.raises(ValueError, match=r"1 of 1 records \(100.0%\).*the first is a.jsonl:2"):
            quarantine.check(0)


def test_at_its_share_files_without_text_are_borne() -> None:
    found = Extracted(given=4)
    found.check(0.0)
    found.refuse("no text: page 3", "one.pdf")
    found.refuse("damaged", "two.pdf")
    found.check(0.5)
    with pytest.raises(
        ValueError, match=r"no text can be taken from 2 of 4 .* \(50.0%\), above .* 49.0%.*one.pdf \(no"
    ):
        found.check(0.49)
    Extracted().check(0.0)
    assert reason_of("12 of 30 pages: 7") == "N of N pages"


def test_every_file_and_archived_page_is_accounted_for() -> None:
    found = Extracted(given=5)
    found.files.update({"warc": 1, "pdf": 2})
    found.records.update({"response": 4, "request": 2})
    found.skipped.update({"a request": 2, "an image": 1})
    found.documents.update({"pdf": 1, "warc": 3})
    found.refuse("damaged", "two.pdf")
    found.assert_conserved()
    for change in ("documents", "skipped"):
        getattr(found, change)["pdf"] += 1
        with pytest.raises(AssertionError):
            found.assert_conserved()
        getattr(found, change)["pdf"] -= 1
