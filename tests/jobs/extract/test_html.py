"""The text of a page, and why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from conf.extraction import Extract
from jobs.corpus.extract.html import EMPTY_CELLS, read_html, read_text

SENTENCE = "The old mill by the river was closed when the last miller left the valley. "


def page(body: str) -> bytes:
    return f"<html><head><title>Mill</title></head><body><article>{body}</article></body></html>".encode()


def read(content: bytes, **changed: Any) -> dict[str, Any]:
    return read_html(content, None, Extract().model_copy(update=changed))


def test_comments_of_readers_are_no_text() -> None:
    body = f"<p>{SENTENCE * 5}</p><div id='comments' class='comments'><p>{'I like mills a lot. ' * 20}</p></div>"
    found = read(page(body))
    assert SENTENCE.strip() in found["text"] and "I like mills" not in found["text"]
    assert found["undecodable"] == 0


@pytest.mark.parametrize("content", [b"<html></html>", page(" "), b"<!-- nothing -->"])
def test_a_page_without_text_says_so(content: bytes) -> None:
    assert read(content) == {"reason": "no text found"}


@pytest.mark.parametrize(("zeros", "binary"), [(0, False), (1, True)])
def test_zero_bytes_at_the_beginning_are_no_html(zeros: int, binary: bool) -> None:
    content = page(f"<p>{SENTENCE * 30}</p>")
    found = read(content[:40] + b"\0" * zeros + content[40:])
    assert (found.get("reason") == "damaged: a binary file, not HTML") is binary
    late = read(content[:1024] + b"\0" + content[1024:])
    assert "text" in late


def test_deep_pages_are_read_whole() -> None:
    body = "<div>" * 400 + f"<p>{SENTENCE * 5}</p>" + "</div>" * 400
    assert SENTENCE.strip() in read(page(body))["text"]


def test_many_empty_cells_become_one_bar() -> None:
    assert EMPTY_CELLS.sub("|", "a | | | | b || c ||| d") == "a | b || c | d"


def test_plain_text_is_told_if_there_is_none() -> None:
    assert read_text(b"words", None)["text"] == "words"
    assert read_text(b" \n", None) == {"reason": "no text found"}
