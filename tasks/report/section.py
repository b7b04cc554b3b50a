"""Renders sections of the report as Markdown; each section's own module decides its content."""

from __future__ import annotations

from collections.abc import Iterable

from conf.report.section import Section


def markdown(sections: Iterable[Section]) -> list[str]:
    """The sections as lines of Markdown."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {section.title}", ""]
        lines += [f"- {sentence}" for sentence in section.sentences]
        lines += [""] if section.sentences else []
        if section.rows:
            lines += ["| " + " | ".join(section.header) + " |", "|---" * len(section.header) + "|"]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in section.rows]
            lines += [""]
        lines += [line for note in section.notes for line in (note, "")]
        lines += [line for title in section.pictures for line in (f"![{title}](plots/{title}.svg)", "")]
    return lines
