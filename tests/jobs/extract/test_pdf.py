"""The text of PDF files, and why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from jobs.corpus.extract.pdf import read_pdf, tidy
from tests.fixtures.documents import SENTENCES, pdf, shown

REAL = Path("../shared/data/pdf")
GOOD = pdf(shown(SENTENCES), shown(SENTENCES[:2]))


def read(content: bytes, **settings: Any) -> dict[str, Any]:
    return read_pdf(content, Extract(**settings))


def test_pages_are_read_in_order() -> None:
    text = "\n".join(SENTENCES) + "\n\n" + "\n".join(SENTENCES[:2])
    assert read(GOOD) == {"text": text, "pages": 2, "ocr_pages": 0}


def test_words_parted_at_a_line_end_are_put_together() -> None:
    assert tidy("zusammen\ufffeh\u00e4ngend\r\nSchwarz\ufffeWei\u00df 2019\ufffe20\x00") == (
        "zusammenh\u00e4ngend\nSchwarz-Wei\u00df 2019-20"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pdf(shown(SENTENCES), encrypted=True), "encrypted: it asks for a password"),
        (GOOD[:-40], "truncated: no end mark (%%EOF)"),
        (b"%PDF-1.4\n" + b"x" * 500 + b"%%EOF", "damaged: "),
        (bytes(range(1, 256)) * 10, "damaged: it does not begin as a PDF file"),
        (pdf("", ""), "no text found"),
        (pdf("", shown(["p. 2"]), image=True), "needs OCR: 2 of 2 pages are images"),
        (GOOD + b"\n" * (2**20 - len(GOOD)), "truncated: its length 1048576 is where crawlers cut"),
    ],
)
def test_a_file_without_text_has_a_reason(content: bytes, reason: str) -> None:
    assert str(read(content)["reason"]).startswith(reason)


def test_a_short_page_without_image_is_text() -> None:
    assert read(pdf(shown(["Chapter 2"])))["text"] == "Chapter 2"


def test_a_text_over_an_image_is_text() -> None:
    assert read(pdf(shown(SENTENCES), image=True))["ocr_pages"] == 0


def test_a_file_of_too_many_pages_is_not_read() -> None:
    assert read(GOOD, max_pages=1)["reason"] == "too large: 2 pages, above data.extract.max_pages 1"


@pytest.mark.parametrize("share", [0.999, 0.95, 0.5, 0.1])
def test_no_cut_gives_a_part_of_the_text(share: float) -> None:
    cut = GOOD[: int(len(GOOD) * share)]
    assert str(read(cut)["reason"]).startswith("truncated")
    kept = read(cut, truncated="keep")
    assert kept.get("text") in (None, read(GOOD)["text"])


def test_pages_that_need_ocr_are_found_exactly() -> None:
    if not REAL.is_dir():
        pytest.skip("no ../shared/data/pdf")
    reasons = {
        path.name: read(path.read_bytes()).get("reason", "")
        for path in REAL.rglob("*.pdf")
        if path.stat().st_size < 70_000
    }
    needs = {name for name, reason in reasons.items() if reason.startswith("needs OCR")}
    assert needs == {"grayscale-image.pdf", "malformed-from-issue-932.pdf"}
    locked = {name for name, reason in reasons.items() if reason.startswith("encrypted")}
    assert locked == {"password-example.pdf", "libreoffice-writer-password.pdf"}
