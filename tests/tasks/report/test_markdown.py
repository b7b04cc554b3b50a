"""Markdown of a report: sections as they are, and no text of a run as markup."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from conf.report.section import Section
from tasks.report import markdown as md


def test_a_section_is_title_list_table_notes_figures() -> None:
    section = Section(
        title="T", sentences=("S.",), header=("a", "b"), rows=(("1", "x|y"),), notes=("N.",), pictures={"p": "c"}
    )
    table = ["| a | b |", "|---|---|", "| 1 | x\\|y |", ""]
    assert md.sections([section]) == ["## T", "", "- S.", "", *table, "N.", "", "![p](plots/p.svg)", ""]


def test_parts_without_content_are_left_out() -> None:
    assert md.sections([Section(title="T", header=("a",))]) == ["## T", ""]


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
