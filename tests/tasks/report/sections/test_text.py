"""What the report says of the text that a run read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.sections.text import read_text, section

SPLITS = {"train": {"documents": 1200, "tokens": 34567}, "test": {"documents": 5, "tokens": 99}}
DATA = {
    "splits": SPLITS,
    "quarantined": 3,
    "repaired": 2,
    "duplicates_across_splits": 4,
    "deduplicated": {"same_words": 6, "similar": 7},
    "notes": ["left out of texts: 2 of other kinds (.log)"],
}
RECORDS = {
    "splits": SPLITS,
    "quarantined": 2,
    "repeats": 8,
    "prompts_of_another_split": 9,
    "reasons": {"no response": 2},
    "fields_not_read": {"mood": 11},
}


def stages(folder: Path, **statistics: dict[str, Any]) -> dict[str, str]:
    for label, content in statistics.items():
        (folder / label).mkdir()
        (folder / label / "statistics.json").write_text(json.dumps(content))
    return {label: str(folder / label) for label in statistics}


def test_everything_left_out_is_told_once(tmp_path: Path) -> None:
    shown = section(read_text(stages(tmp_path, data=DATA, records=RECORDS)))
    assert shown
    assert shown.sentences == (
        "data: left out of texts: 2 of other kinds (.log).",
        "data: 3 cannot be used.",
        "data: 4 are left out: in another split too.",
        "data: 6 are left out: the same words as another.",
        "data: 7 are left out: similar to another.",
        "data: 2 had wrongly decoded characters, which were repaired.",
        "records: 2 cannot be used: 2 no response.",
        "records: 8 are left out: the same record again.",
        "records: 9 are left out: a prompt of a held-out split.",
        "records: fields that are not read: mood (11).",
    )
    assert shown.rows[:2] == (("data", "train", "1,200", "34,567"), ("data", "test", "5", "99"))


def test_a_count_that_is_missing_is_none(tmp_path: Path) -> None:
    counts = read_text(stages(tmp_path, data={"splits": {"train": {}}}))["data"]
    assert (counts.kept, counts.tokens) == ({"train": 0}, {"train": 0})
    assert (counts.quarantined, counts.repaired, counts.left_out, counts.reasons) == (0, 0, {}, {})
    nothing = {"splits": {}, "deduplicated": {"similar": 2}, "decontaminated": {"kept": 1}}
    assert read_text(stages(tmp_path, **{"data-b": nothing}))["data-b"].left_out == {"similar to another": 2}


def test_benchmark_questions_that_were_removed_are_told(tmp_path: Path) -> None:
    shown = section(read_text(stages(tmp_path, data={"splits": SPLITS, "decontaminated": {"removed": 3}})))
    assert shown and shown.sentences == ("data: 3 are left out: a benchmark question.",)


def test_where_nothing_is_left_out_nothing_is_said(tmp_path: Path) -> None:
    shown = section(read_text(stages(tmp_path, data={"splits": SPLITS, "quarantined": 0})))
    assert shown and shown.sentences == ()
    assert len(shown.rows) == 2


def test_other_stages_have_no_text(tmp_path: Path) -> None:
    assert section(read_text(stages(tmp_path, database={"splits": SPLITS, "quarantined": 0}))) is None


def test_a_split_without_counts_has_none(tmp_path: Path) -> None:
    """As statistics of an older version may be: no count is made up."""
    shown = section(read_text(stages(tmp_path, data={"splits": {"test": {}}})))
    assert shown and (shown.rows, shown.sentences) == ((("data", "test", "0", "0"),), ())


def test_a_corpus_of_its_own_and_leaked_questions_are_told(tmp_path: Path) -> None:
    leaked = {"splits": {}, "decontaminated": {"removed": 12}, "repaired": 0}
    found = read_text(stages(tmp_path, **{"data-general": leaked, "database": leaked}))
    assert list(found) == ["data-general"]
    assert found["data-general"].left_out == {"a benchmark question": 12}
