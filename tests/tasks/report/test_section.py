"""Sections as Markdown."""

from __future__ import annotations

from conf.report.section import Section
from tasks.report.section import markdown


def test_a_section_is_title_list_table_notes_figures() -> None:
    section = Section(
        title="T", sentences=("S.",), header=("a", "b"), rows=(("1", "x|y"),), notes=("N.",), pictures={"p": "c"}
    )
    table = ["| a | b |", "|---|---|", "| 1 | x\\|y |", ""]
    assert markdown([section]) == ["## T", "", "- S.", "", *table, "N.", "", "![p](plots/p.svg)", ""]


def test_parts_without_content_are_left_out() -> None:
    assert markdown([Section(title="T", header=("a",))]) == ["## T", ""]
