"""What the report says of a blend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.report.sections.mix import read_mix, read_written, section


def blend(folder: Path, **more: Any) -> dict[str, str]:
    parts = [
        {"name": "data", "weight": 0.75, "tokens": 3000, "held": 1000, "passes": 3.0},
        {"name": "more", "weight": 0.25, "tokens": 1000, "held": 2000, "passes": 0.5},
    ]
    folder.mkdir()
    content = {"splits": {"train": {"documents": 7, "tokens": 4000}}, "blend": parts} | more
    (folder / "statistics.json").write_text(json.dumps(content))
    return {"data": "elsewhere", "blend": str(folder)}


def stage(until: float, until_tokens: int, **sources: tuple[float, int, float, float]) -> dict[str, Any]:
    names = ("weight", "tokens", "passes", "passes_so_far")
    read = {corpus: dict(zip(names, counts, strict=True)) for corpus, counts in sources.items()}
    return {"until": until, "until_tokens": until_tokens, "sources": read}


def test_every_stage_has_a_row_for_each_corpus_it_reads(tmp_path: Path) -> None:
    first = stage(0.5, 2000, data=(1.0, 2000, 2.0, 2.0))
    second = stage(1.0, 4000, data=(0.5, 1000, 1.0, 3.0), more=(0.5, 1000, 0.5, 0.5))
    shown = section(read_mix(blend(tmp_path / "blend", blend_stages=[first, second])))
    assert shown and shown.title == "The mix"
    assert shown.sentences == ("The training text is mixed of 2 corpora in 2 stages.",)
    assert shown.rows == (
        ("1", "2,000 tokens (0.5)", "data", "100.00%", "2,000", "2.00", "2.00"),
        ("2", "4,000 tokens (1)", "data", "50.00%", "1,000", "1.00", "3.00"),
        ("2", "4,000 tokens (1)", "more", "50.00%", "1,000", "0.50", "0.50"),
    )
    assert len(shown.header) == len(shown.rows[0])
    assert shown.notes == (
        "Counted for a training of all 4,000 tokens of the blend. A shorter one has the same stages with fewer tokens"
        " each.",
    )


def test_stages_by_tokens_are_told_so(tmp_path: Path) -> None:
    stages = [stage(2000, 2000, data=(1, 2000, 2, 2)), stage(4000, 4000, more=(1, 2000, 1, 1))]
    shown = section(read_mix(blend(tmp_path / "blend", blend_stages=stages)))
    assert shown and shown.rows[1][1] == "4,000 tokens"
    assert shown.notes[0].endswith("A shorter one ends in an earlier stage.")


def test_a_blend_that_does_not_change_is_one_stage(tmp_path: Path) -> None:
    shown = section(read_mix(blend(tmp_path / "blend")))
    assert shown and shown.sentences == ("The training text is mixed of 2 corpora.",)
    assert shown.rows[1] == ("1", "4,000 tokens (1)", "more", "25.00%", "1,000", "0.50", "0.50")
    assert shown.notes == ("Counted for a training of all 4,000 tokens of the blend.",)


def test_a_run_without_a_blend_has_no_such_section(tmp_path: Path) -> None:
    assert read_mix({"data": str(tmp_path)}) == read_mix({"blend": str(tmp_path / "gone")}) == ()
    assert section(()) is None


def test_what_the_teacher_wrote_is_told(tmp_path: Path) -> None:
    counts = {"documents": 1040, "empty": 2, "cut": 31, "repeated": 4, "tokens": 99000, "seconds": 7.5}
    stages = blend(tmp_path / "blend") | {"write": str(tmp_path)}
    assert read_written(stages) is None, "it has not ended"
    (tmp_path / "write.json").write_text(json.dumps(counts))
    shown = section(read_mix(stages), read_written(stages))
    assert shown and shown.sentences[1] == (
        "The teacher wrote 1,040 documents in 99,000 tokens: 31 were cut at write.max_new_tokens, 4 repeat another, and"
        " 2 empty ones were left out."
    )
    assert read_written({"blend": "elsewhere"}) is None
