"""What is counted in one shard is added to what is counted in others, after a way through a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.corpus import each, shards
from jobs.corpus.each import in_processes
from jobs.corpus.extract_counts import Extracted
from jobs.corpus.ocr_counts import Recognized
from jobs.corpus.readers import Count, Document
from jobs.corpus.refetch_counts import Refetched
from jobs.corpus.shards import Curated, Shard, Writer, count_of
from jobs.curation.duplicates import SIGNED
from jobs.curation.filters import Judged
from jobs.curation.leaks import Cleared
from jobs.curation.prose import Broken


def count(times: int, first: str) -> Count:
    """Different numbers in every field."""
    fetched = Refetched(kept=[])
    fetched.add({"reason": "", "seconds": 1.5, "bytes": 10 * times, "url": f"u{times}", "digest": "d"})
    fetched.add({"reason": "status 404: x", "seconds": 0.5, "bytes": 0})
    recognized = Recognized(
        pages=times,
        characters=2 * times,
        reduced=3 * times,
        failed=Counter({"no text": times}),
        first=first,
        seconds=1.0,
    )
    extracted = Extracted(
        files=Counter(html=times),
        records=Counter(response=2 * times),
        skipped=Counter({"status 404": times}),
        given=5 * times,
        documents=Counter(html=3 * times, pdf=1),
        quarantined=Counter(empty=times),
        first=first,
        pages=6 * times,
        ocr_pages=7 * times,
        reordered=8 * times,
        undecodable=9 * times,
        recognized=recognized,
        refetched=fetched,
    )
    return Count(lines=10 * times, blank=11 * times, repaired=12 * times, extracted=extracted)


def test_counts_of_shards_add_up() -> None:
    whole = Count()
    for one in (count(1, ""), count(2, "b:1"), count(3, "c:1")):
        whole.add(count_of(orjson.loads(orjson.dumps(shards._plain(one), default=str))))
    extracted = whole.extracted
    assert (whole.lines, whole.blank, whole.repaired) == (60, 66, 72)
    assert (extracted.files, extracted.records) == (Counter(html=6), Counter(response=12))
    assert (extracted.skipped, extracted.quarantined) == (Counter({"status 404": 6}), Counter(empty=6))
    assert extracted.documents == Counter(html=18, pdf=3)
    assert (extracted.given, extracted.pages, extracted.ocr_pages) == (30, 36, 42)
    assert (extracted.reordered, extracted.undecodable, extracted.first) == (48, 54, "b:1")
    read = extracted.recognized
    assert (read.pages, read.characters, read.reduced, read.seconds) == (6, 12, 18, 3.0)
    assert (read.failed, read.first) == (Counter({"no text": 6}), "b:1")


def test_the_digest_of_what_was_fetched_is_that_of_one_process() -> None:
    whole, alone = Count(), Refetched()
    for times in (1, 2):
        one = count(times, "")
        whole.add(count_of(orjson.loads(orjson.dumps(shards._plain(one), default=str))))
        for fetched in one.extracted.refetched.kept or ():
            alone.add(fetched)
    assert whole.extracted.refetched.counts() == alone.counts()
    assert (alone.files, alone.bytes, alone.seconds, alone.failed) == (2, 30, 4.0, Counter({"status 404": 2}))


def test_verdicts_come_back_as_they_were(tmp_path: Path) -> None:
    judged = Judged(False, (Broken("gopher.min_words", 0.1), Broken("c4.x", 3)), "new", True, {"email": 2}, "s", 7)
    cleared = Cleared(False, "cut", 3, ({"subject": "rivers", "index": 1},), True)
    gone = Judged(True, (Broken("gopher.min_words", 1),), None, False, {}, "x", 0)
    row = np.zeros(1, SIGNED)
    row["bands"][0, 3] = 5
    shard, told = Shard(tmp_path, 4), [(Curated(judged, cleared), row), (Curated(gone), None), (Curated(), row)]
    with Writer(shard) as writer:
        for line, (curated, signature) in enumerate(told, 1):
            writer.add(Document("a", line, f"text {line}"), curated, signature)
        writer.add(Document("a", 4, None, "bad", "x", 3), Curated(), None)
        writer.close("stamp", Count(lines=8, blank=2))
    read = list(shard.verdicts())
    assert [(file, line, curated) for file, line, curated, _ in read] == [
        ("a", line, curated) for line, (curated, _) in enumerate(told, 1)
    ]
    assert [None if found is None else found.tobytes() for *_, found in read] == [row.tobytes(), None, row.tobytes()]
    assert list(shard.documents())[-1] == Document("a", 4, None, "bad", "x", 3)
    counts = shard.done("stamp")
    assert counts and (counts["records"], counts["documents"], counts["removed"]) == (4, 3, 1)
    assert shard.done("other") is None


def test_a_line_that_is_nowhere_is_noticed(tmp_path: Path) -> None:
    with Writer(Shard(tmp_path, 0)) as writer:
        writer.add(Document("a", 1, "text"), Curated(), None)
        with pytest.raises(AssertionError, match="1 of 3 lines are neither blank nor in a record"):
            writer.close("stamp", Count(lines=3, blank=1))
    assert Shard(tmp_path, 0).done("stamp") is None


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_kept_of_a_task_comes_with_its_result(workers: int) -> None:
    def double(task: Any) -> Any:
        return 2 * task

    given = ((f"kept {number}", number) for number in range(9))
    assert list(in_processes(double, given, workers)) == [(f"kept {number}", 2 * number) for number in range(9)]
    assert each._function is double
