"""A section of the report beside its main table: a title, sentences, a table and pictures, shown in report.md and
report.html alike.

Each section's own module decides what it says; this one decides how a section looks.
"""

from __future__ import annotations

from pydantic import Field

from conf.base import Config


class Section(Config):
    """One section. Texts are plain; `pictures` maps a drawing's name (a file under plots/) to its caption."""

    title: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    pictures: dict[str, str] = Field(default={})


def markdown(sections: list[Section]) -> list[str]:
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
