"""What is told of files that text was taken from."""

from __future__ import annotations

from collections import Counter

import pytest

from jobs.corpus.extract_counts import Extracted, reason_of
from jobs.corpus.ocr_counts import Recognized
from jobs.corpus.refetch_counts import Refetched
from tests.jobs.corpus.test_refetch_counts import fetched


def test_nothing_read_is_nothing_counted() -> None:
    assert list(Extracted().counts().values()) == [{}] * 5 + [0] * 3
    assert Extracted().sentences() == ["text was taken from 0 of 0 files and archived pages ( files)"]


def test_everything_is_told() -> None:
    found = Extracted(given=1005, pages=2000, ocr_pages=30, reordered=4, undecodable=2)
    found.files.update(warc=1, html=1002)
    found.records.update(response=5, request=4)
    found.skipped.update({"a request": 4})
    found.documents.update(html=1003)
    assert found.sentences() == [
        "text was taken from 1,003 of 1,005 files and archived pages (1,002 html and 1 warc files)",
        "records of the web archives: response (5), request (4)",
        "records that are no pages with text: a request (4)",
        "4 of 2,000 PDF pages were put in order: drawn across columns",
        "30 of 2,000 PDF pages are images without text and need OCR",
        "2 pages have bytes that their encoding does not, written as U+FFFD",
    ]
    found.recognized = Recognized(engine="x", pages=3)
    assert found.sentences()[4].startswith("3 of 3 pages that are images were read by OCR (x)")
    assert found.counts()["pdf_pages_reordered"] == 4 and found.counts()["ocr"]["pages"] == 3


def test_two_refusals_count_twice_and_the_first_is_named() -> None:
    found = Extracted()
    found.refuse("too slow: 9 s", "a:1")
    found.refuse("too slow: 8 s", "a:2")
    assert found.quarantined == Counter({"too slow": 2}) and found.first == "a:1 (too slow: 9 s)"


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


def test_counts_of_processes_add_up() -> None:
    one, other = Extracted(), Extracted(first="b:1")
    for number, name in enumerate(("given", "pages", "ocr_pages", "reordered", "undecodable"), 1):
        setattr(one, name, number)
        setattr(other, name, 10 * number)
    other.files.update(html=2)
    other.refetched = Refetched(kept=[fetched(1)])
    one.join(other)
    assert (one.given, one.pages, one.ocr_pages, one.reordered, one.undecodable) == (11, 22, 33, 44, 55)
    assert (one.first, one.files, one.refetched.files) == ("b:1", Counter(html=2), 1)
    one.join(Extracted(first="c:1"))
    assert one.first == "b:1"
