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


def placed(width: float, height: float, left: float = 0, bottom: float = 0) -> str:
    """The gray image at a place of the page."""
    return f"q {width} 0 0 {height} {left} {bottom} cm /Im Do Q\n"


@pytest.mark.parametrize(
    ("page", "needs"),
    [
        (placed(612, 396), 1),
        (placed(612, 395), 0),
        (placed(612, 792, left=305), 1),  # the rest is beside the page
        (placed(612, 792, left=307), 0),
        (placed(612, 792, left=-307), 0),
        (placed(612, 792, bottom=-397), 0),
        (placed(612, 792, bottom=395), 1),
        (placed(306, 396) + placed(306, 396, 306, 396), 1),
        (placed(612, 900, left=900), 0),
        (placed(612, 900, bottom=-900), 0),
    ],
)
def test_a_page_is_an_image_from_half_of_its_area(page: str, needs: int) -> None:
    assert read(pdf(page, shown(SENTENCES)))["ocr_pages"] == needs


def test_half_of_the_pages_may_not_be_images() -> None:
    image, text = placed(612, 792), shown(SENTENCES)
    assert read(pdf(text, image))["reason"] == "needs OCR: 1 of 2 pages are images"
    assert read(pdf(text, image, text))["text"].count(SENTENCES[0]) == 2
    assert read(pdf(text, image, ""))["reason"] == "needs OCR: 1 of 3 pages are images"


def test_a_page_of_few_characters_is_text() -> None:
    for count, needs in ((50, 0), (49, 1)):
        assert read(pdf(placed(612, 792) + shown(["x" * count])))["ocr_pages"] == needs
    assert read(pdf(shown(["x"]), ""), max_pages=2)["text"] == "x"


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
