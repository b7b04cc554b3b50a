"""Markdown of a report's parts. All text is escaped: names, descriptions and messages come from files and data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from conf.report.section import Section

INLINE = re.compile(r"([\\`*\[\]~|])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Signs that could begin markup within a line; an underscore inside a word cannot."""
START = re.compile(r"^(#|[-+](?=\s|$)|[-=]{2,}|\d+(?=[.)](?:\s|$)))")
"""What could make a line a heading, a list or a rule."""
SCHEME = re.compile(r"\b(https?|ftp|mailto|www)(:|\.)", re.IGNORECASE)


def escape(text: str) -> str:
    """A paragraph or list item that Markdown shows as it is, on one line: no markup, no HTML, no link."""
    return START.sub(lambda match: f"{match[1]}\\" if match[1].isdigit() else f"\\{match[1]}", _inline(text))


def _inline(text: str) -> str:
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = INLINE.sub(lambda match: f"\\{match[0]}", line)
    return SCHEME.sub(lambda match: f"{match[1]}{'&#58;' if match[2] == ':' else '&#46;'}", line)


def code(text: str) -> str:
    """Text as inline code, whatever backticks it holds."""
    line = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> list[str]:
    """A table as lines; with `right`, all columns but the first are aligned to the right."""
    rule = "|---" + ("|---:" if right else "|---") * (len(header) - 1) + "|"
    return [_line(header), rule, *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_inline, cells))} |"


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
