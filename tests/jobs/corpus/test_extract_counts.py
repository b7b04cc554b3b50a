"""What is told of files that text was taken from, and of those that were fetched again."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from jobs.corpus.extract_counts import Extracted
from jobs.corpus.ocr_counts import Recognized
from jobs.corpus.refetch_counts import Refetched


def fetched(number: int, reason: str = "") -> dict[str, object]:
    return {"url": f"u{number}", "digest": f"d{number}", "bytes": 500 * number, "seconds": 0.754, "reason": reason}


def test_nothing_read_is_nothing_counted() -> None:
    assert list(Extracted().counts().values()) == [{}] * 5 + [0] * 3
    assert Extracted().sentences() == ["text was taken from 0 of 0 files and archived pages ( files)"]
    nothing = {"cut": 0, "fetched": 0, "bytes": 0, "failed": {}, "seconds": 0.0, "digest": ""}
    assert Refetched().counts() == nothing and Refetched().kept is None


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


def test_what_was_fetched_again_is_told() -> None:
    found, kept = Refetched(), Refetched(kept=[])
    for one in (fetched(1), fetched(2), fetched(9, "status 404: gone"), fetched(9, "status 404: lost")):
        found.add(one)
        kept.add(one)
    digest = sha256(f"{sha256(b' u1 d1').hexdigest()} u2 d2".encode()).hexdigest()
    assert found.counts() == {
        **{"cut": 4, "fetched": 2, "bytes": 1500, "failed": {"status 404": 2}, "seconds": 3.02, "digest": digest}
    }
    assert found.sentence() == (
        "2 of 4 cut PDF files of archives were fetched again (1,500 bytes in 3.0 s); 2 were not: status 404"
    )
    assert found.kept is None and kept.kept and len(kept.kept) == 4
