"""The main text of a web page, by trafilatura. Runs in a worker process only."""

from __future__ import annotations

import re
from typing import Any

from conf.extraction import Extract
from conf.text_encoding import stated
from jobs.corpus.extract.charset import decode

EMPTY_CELLS = re.compile(r"\|(?:[ \t]*\|){2,}")
"""A table cell that spans thousands of columns becomes as many empty ones."""
NO_MEMORY = "ERR_NO_MEMORY"


def read_html(content: bytes, charset: str | None, settings: Extract) -> dict[str, Any]:
    """`text` or the `reason` there is none, and whether some bytes were `undecodable`."""
    import trafilatura

    if content[:1024].count(0) and not stated(content[:1024]):
        return {"reason": "damaged: a binary file, not HTML"}
    text, damaged = decode(content, charset)
    tree = _tree(text)
    # Its own deduplication has a memory of all pages before and gives less from page to page: never switched on.
    found = tree is not None and trafilatura.extract(
        tree,
        fast=True,
        include_comments=False,
        favor_precision=settings.favour == "precision",
        favor_recall=settings.favour == "recall",
    )
    if not found or not found.strip():
        return {"reason": "no text found"}
    return {"text": EMPTY_CELLS.sub("|", found), "undecodable": damaged}


def _tree(text: str) -> Any:
    """A page as trafilatura parses it; None where there is nothing in it. Raises MemoryError, which trafilatura would
    take for a page without text, and reads what lies deep or is long, which it would cut."""
    import lxml.html
    from lxml.etree import ParserError, XMLSyntaxError
    from trafilatura.utils import repair_faulty_html

    parser = lxml.html.HTMLParser(
        collect_ids=False,
        default_doctype=False,
        encoding="utf-8",
        remove_comments=True,
        remove_pis=True,
        huge_tree=True,
    )
    try:
        mended = repair_faulty_html(text, text[:50].lower())
        return lxml.html.fromstring(mended.encode("utf-8", "replace"), parser=parser)
    except ParserError:
        return None
    except XMLSyntaxError as error:
        if any(entry.type_name == NO_MEMORY for entry in parser.error_log):
            raise MemoryError from error
        raise


def read_text(content: bytes, charset: str | None) -> dict[str, Any]:
    """The same for plain text in an archive."""
    text, damaged = decode(content, charset)
    return {"text": text, "undecodable": damaged} if text.strip() else {"reason": "no text found"}
