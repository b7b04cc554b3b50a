"""The bound on the records that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

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
