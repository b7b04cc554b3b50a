"""What text recognition counts: of files, of processes together, and when too many pages have failed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from conf.ocr import Ocr
from jobs.corpus.ocr_counts import EMPTY, Recognized


def file(pages: int, **failed: int) -> dict[str, Any]:
    return {"pages": pages, "characters": 100 * pages, "reduced": 1, "seconds": 0.5, "failed": failed}


def counted(*files: dict[str, Any]) -> Recognized:
    found = Recognized(engine="tesseract 5")
    for number, one in enumerate(files):
        found.add(one, f"file-{number}")
    return found


def test_counts_of_files_add_up() -> None:
    found = counted(file(3), file(4, **{"too slow: 9 s": 2, "too slow: 8 s": 1}))
    assert (found.pages, found.characters, found.reduced, found.seconds) == (7, 700, 2, 1.0)
    assert found.failed == Counter({"too slow": 3}) and found.given == 10
    assert found.first == "file-1 (too slow: 9 s)", "the first that failed, with the whole reason"
    assert Recognized().counts() == {
        **{"engine": "", "languages": {}, "pages": 0, "characters": 0, "reduced": 0},
        **{"failed": {}, "seconds": 0.0},
    }


def test_counts_of_processes_add_up() -> None:
    one, other = counted(file(3, broken=1)), counted(file(5, broken=2, **{EMPTY: 4}))
    one.join(other)
    assert (one.pages, one.characters, one.reduced, one.seconds) == (8, 800, 2, 1.0)
    assert one.failed == Counter({"broken": 3, EMPTY: 4}) and one.first == "file-0 (broken)"
    none = counted(file(1))
    none.join(other)
    assert none.first == "file-0 (broken)", "where the earlier process had none"


def test_a_page_without_text_is_no_failure() -> None:
    found = counted(file(1, **{EMPTY: 99}))
    assert found.first == ""
    found.check(Ocr(max_failed_share=0.0))


def test_too_many_failures_name_the_most_frequent() -> None:
    found = counted(file(6, **{EMPTY: 9}), file(0, broken=2, **{"too slow": 3}))
    found.check(Ocr(max_failed_share=0.25))
    found.check(None)
    with pytest.raises(ValueError) as caught:
        found.check(Ocr(max_failed_share=0.249))
    told = "5 of 20 PDF pages cannot be recognized (25.0%), above data.extract.ocr.max_failed_share 24.9%"
    assert str(caught.value) == f"{told}; most often: too slow (3); the first is in file-1 (broken)"
