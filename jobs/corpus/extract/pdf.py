"""The text of a PDF file, by PDFium. Runs in a worker process only."""

from __future__ import annotations

import re
from typing import Any

from conf.extraction import Extract
from jobs.corpus.extract import columns
from jobs.corpus.extract.ocr import Recognizer

MAGIC = b"%PDF-"
END = b"%%EOF"
WITHIN = 1024
"""Bytes from the start and the end of a file in which its marks stand."""
CRAWL_LIMITS = (1 << 20, 5 << 20)
"""Lengths at which Common Crawl cuts files, old and new."""
ENCRYPTED = 4
"""PDFium's code of an error where a password is asked for."""
HYPHEN = re.compile("(.?)\ufffe(.?)", re.DOTALL)
"""PDFium's mark for a hyphen at the end of a line."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_pdf(
    content: bytes, settings: Extract, truncated: str | None = None, recognizer: Recognizer | None = None
) -> dict[str, Any]:
    """`text` or the `reason` there is none, how many `pages` it has and how many are images (`ocr_pages`), which
    `recognizer` reads, with its counts as `ocr`. `truncated`: how it is known that its end is missing."""
    import pypdfium2

    if MAGIC not in content[:WITHIN]:
        return {"reason": "damaged: it does not begin as a PDF file (%PDF-)"}
    truncated = cut(content, truncated)
    if truncated and settings.truncated == "quarantine":
        return {"reason": f"truncated: {truncated}"}
    try:
        with pypdfium2.PdfDocument(content) as document:
            return _read(document, settings, recognizer)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == ENCRYPTED:
            return {"reason": "encrypted: it asks for a password"}
        return {"reason": f"truncated: {truncated}" if truncated else f"damaged: {error}"}


def cut(content: bytes, told: str | None) -> str | None:
    """How it shows that the end of a PDF file is missing, if it was not told; None where it does not."""
    if told:
        return told
    if len(content) in CRAWL_LIMITS:
        return f"its length {len(content)} is where crawlers cut"
    return None if END in content[-WITHIN:] else "no end mark (%%EOF)"


def _read(document: Any, settings: Extract, recognizer: Recognizer | None) -> dict[str, Any]:
    pages = len(document)
    if pages > settings.max_pages:
        return {"reason": f"too large: {pages} pages, above data.extract.max_pages {settings.max_pages}"}
    texts, images, unread, reordered = [], 0, 0, 0
    for number in range(pages):
        page = document[number]
        text, was_reordered = _text(page, settings)
        reordered += was_reordered
        if len(text) < settings.min_page_characters and _image_share(page) >= settings.min_image_share:
            images += 1
            text = tidy(recognizer.text(page)) if recognizer else ""
            unread += not text
        if text:
            texts.append(text)
        page.close()
    counts: dict[str, Any] = {"pages": pages, "ocr_pages": images}
    if settings.order == "reading":
        counts["reordered"] = reordered
    if recognizer and images:
        counts["ocr"] = recognizer.counts()
    if unread and unread >= len(texts):
        failed = recognizer and ", ".join(f"{reason} ({count})" for reason, count in recognizer.failed.items())
        return {"reason": f"needs OCR: {unread} of {pages} pages are images{f', {failed}' if failed else ''}", **counts}
    return {"text": "\n\n".join(texts), **counts} if texts else {"reason": "no text found", **counts}


def _text(page: Any, settings: Extract) -> tuple[str, bool]:
    """The text of a page, in the order in which the file draws it, or in which it is read; and whether these differ."""
    lines = page.get_textpage()
    found = columns.reordered(page, lines) if settings.order == "reading" else None
    text = lines.get_text_range() if found is None and lines.count_chars() else found
    lines.close()
    return tidy(text or ""), found is not None


def tidy(text: str) -> str:
    """PDFium's text with line feeds, without characters that are no text, and with words that a line's end parts put
    together. The hyphen stays before a capital and after a digit (Baden-Baden, 2019-20)."""
    text = CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = HYPHEN.sub(lambda found: f"{found[1]}{'-' if _keeps(found[1], found[2]) else ''}{found[2]}", text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def _keeps(before: str, after: str) -> bool:
    return after.isupper() or before.isdigit()


def _image_share(page: Any) -> float:
    """Share of a page's area that its images cover, at most 1."""
    import pypdfium2.raw

    width, height = page.get_size()
    covered = 0.0
    for image in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]):
        left, bottom, right, top = image.get_bounds()
        covered += max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(top, height) - max(bottom, 0))
    return min(1.0, covered / (width * height)) if width * height > 0 else 0.0
