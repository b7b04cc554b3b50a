"""Markdown of a report's parts. All text is escaped: names, descriptions and messages come from files and data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conf.markdown import escape, escape_cell
from conf.report.section import Section


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> list[str]:
    """A table as lines; with `right`, all columns but the first are aligned to the right."""
    rule = "|---" + ("|---:" if right else "|---") * (len(header) - 1) + "|"
    return [_line(header), rule, *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_cell, cells))} |"


def sections(parts: Iterable[Section]) -> list[str]:
    """Sections of a report as lines."""
    lines: list[str] = []
    for section in parts:
        lines += [f"## {escape(section.title)}", ""]
        lines += [f"- {escape(sentence)}" for sentence in section.sentences]
        lines += [""] if section.sentences else []
        if section.rows:
            lines += [*table(section.header, section.rows), ""]
        lines += [line for note in section.notes for line in (escape(note), "")]
        lines += [line for title in section.pictures for line in (picture(title), "")]
    return lines


def picture(title: str) -> str:
    """A figure of the report by name."""
    return f"![{escape(title)}](plots/{title}.svg)"
