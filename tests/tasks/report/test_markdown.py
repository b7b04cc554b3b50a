"""Sections of a report as Markdown."""

from __future__ import annotations

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
