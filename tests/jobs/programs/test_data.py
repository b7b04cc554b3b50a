"""The data program's own account: every line and record has one place, and nothing is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.stages.data import DataConfig
from jobs import data
from jobs.corpus.collect import Collected
from jobs.corpus.readers import Count
from tests.fixtures.data import TEXTS, prepare

LINES = {"blank": 1, "kept": 20, "quarantined": 300, "repeated": 4000, "again": 50000, "filtered": 600000}
LINES |= {"leaked": 7000000, "own": 80000000}
RECORDS = {"documents": 20, "quarantined": 300, "repeats": 4000, "again": 50000, "filtered": 600000}
RECORDS |= {"leaked": 7000000, "own": 80000000}
"""Each of another size, so that none can stand in for another."""


def told(lines: int, records: int, shared: int = 0, blocks: bool = True, **settings: Any) -> dict[str, Any]:
    """The counts of so many lines and records that became what is above, of blocks or without any."""

    def block(name: str) -> Any:
        counts: Any = (lambda: {"removed": RECORDS[name]}) if name != "again" else {"removed": RECORDS[name]}
        found = SimpleNamespace(lines=LINES[name], removed=RECORDS[name], documents=RECORDS[name], counts=counts)
        return found if blocks else None

    collected = Collected(count=Count(lines=lines, blank=LINES["blank"]), records=records, repeats=RECORDS["repeats"])
    collected.repeated_lines, collected.filtered = LINES["repeated"], block("filtered")
    collected.decontaminated, collected.deduplicated = block("leaked"), block("again")
    splits: Any = SimpleNamespace(lines={"train": 15, "test": 5}, documents={"train": 19 + shared, "test": 1})
    quarantine: Any = SimpleNamespace(lines=LINES["quarantined"], records=RECORDS["quarantined"])
    quarantine.reasons = SimpleNamespace(most_common=lambda: [("why", 300)])
    held = {"own": RECORDS["own"], "own_lines": LINES["own"], "shared": shared} if blocks else None
    return data._counts(collected, splits, quarantine, DataConfig.model_validate({"source": "x"} | settings), held)


def test_every_line_and_record_has_a_place() -> None:
    lines, records = sum(LINES.values()), sum(RECORDS.values())
    found = told(lines, records, shared=9)
    assert (found["lines_read"], found["lines_in_documents"], found["documents"]) == (lines, 20, 29)
    assert found["held_out"] == {"own": 80000000, "own_lines": 80000000, "shared": 9}
    assert (found["filtered"], found["decontaminated"]) == ({"removed": 600000}, {"removed": 7000000})
    for more in (-1, 1):
        with pytest.raises(AssertionError, match=rf"{more} of {records + more} records are neither kept nor left out"):
            told(lines, records + more)
        with pytest.raises(AssertionError, match=rf"{more} of {lines + more} lines are neither documents, blank"):
            told(lines + more, records)
    told(lines + 1, records, max_documents=5)  # what follows the last one is not looked at


def test_without_blocks_nothing_was_taken() -> None:
    names = ("blank", "kept", "quarantined", "repeated")
    found = told(sum(LINES[name] for name in names), 20 + 300 + 4000, blocks=False)
    assert found["filtered"] is None and found["deduplicated"] is None
    assert not {"decontaminated", "held_out", "planted", "extracted"} & found.keys()


def test_progress_is_told_in_thirds(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also of a job that was killed; what it kept for that case is gone."""
    output = tmp_path / "out"
    for left in ("recognized", "tokenizer"):
        (output / left).mkdir(parents=True)
    (output / "metrics.jsonl").write_text('{"step": 1, "values": {}}\n')
    (tmp_path / "a.txt").write_text("\n".join([*TEXTS[:9], "broken \0"]))
    prepare(str(tmp_path / "a.txt"), words, output, max_rejected_share=0.2)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]
    tokens = json.loads((output / "statistics.json").read_text())["splits"]["train"]["tokens"]
    assert lines[-1]["values"] == {"documents": 9, "train_tokens": tokens, "quarantined": 1}
    assert f"9 documents, {tokens:,} training tokens, 1 records in quarantine" in capfd.readouterr().out
    assert not (output / "recognized").exists()
