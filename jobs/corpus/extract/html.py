"""The main text of a web page, by trafilatura. Runs in a worker process only."""

from __future__ import annotations

import logging
from typing import Any

from conf.extraction import Extract
from jobs.corpus.extract.charset import decode

logging.disable(logging.CRITICAL)  # trafilatura logs every page it cannot read; they are counted here


def read_html(content: bytes, charset: str | None, settings: Extract) -> dict[str, Any]:
    """`text` or the `reason` there is none, and whether some bytes were `undecodable`."""
    import trafilatura
    from lxml.etree import ParserError

    if b"\0" in content[:1024] and not content.startswith((b"\xff\xfe", b"\xfe\xff")) and content[:64].count(0) < 16:
        return {"reason": "damaged: a binary file, not HTML"}
    text, damaged = decode(content, charset)
    try:
        # Its own deduplication has a memory of all pages before and gives less from page to page: never switched on.
        found = trafilatura.extract(
            text,
            fast=True,
            include_comments=False,
            favor_precision=settings.favour == "precision",
            favor_recall=settings.favour == "recall",
        )
    except (ParserError, RecursionError) as error:
        return {"reason": f"damaged: {type(error).__name__}"}
    if not (found or "").strip():
        return {"reason": "no text found"}
    return {"text": found, "undecodable": damaged}


def read_text(content: bytes, charset: str | None) -> dict[str, Any]:
    """The same for plain text in an archive."""
    text, damaged = decode(content, charset)
    return {"text": text, "undecodable": damaged} if text.strip() else {"reason": "no text found"}
