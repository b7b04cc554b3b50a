"""Text as Markdown that shows it as it is: no markup, no HTML, no link."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from conf import markdown as md

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/a.png)",
    "# heading",
    "- item",
    "12. item",
    "**bold** _leaning_ ~~struck~~",
    "`code`",
    "line\n\n# next",
    "a|b",
    "https://evil.example/ and www.evil.example",
    "back\\slash",
    "&lt;b&gt;",
    "---",
    "> quoted",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is(text: str) -> None:
    parser = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    (opened, inline, closed) = parser.parse(md.escape(text))
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    kinds = {token.type for token in inline.children or []}
    assert kinds <= {"text", "text_special"}, kinds
    shown = "".join(token.content for token in inline.children or [])
    assert shown == " ".join(text.split())


def test_no_address_is_left_for_a_page_to_link() -> None:
    escaped = md.escape("see https://evil.example, HTTP://x, www.evil.example, mailto:me@x")
    assert "https:" not in escaped and "HTTP:" not in escaped and "www." not in escaped and "mailto:" not in escaped


@pytest.mark.parametrize("text", ["a`b", "``", "`a", "plain", "x``y`z"])
def test_code_keeps_its_backticks_inside(text: str) -> None:
    (_, inline, _) = MarkdownIt("commonmark").parse(md.code(text))
    assert [(token.type, token.content) for token in inline.children or []] == [("code_inline", text)]


@pytest.mark.parametrize(("text", "shown"), [("plain", "`plain`"), ("a`b", "``a`b``"), ("a``b", "```a``b```")])
def test_code_has_the_shortest_fence_that_holds(text: str, shown: str) -> None:
    assert md.code(text) == shown
