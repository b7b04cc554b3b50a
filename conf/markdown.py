"""Text from files and data as Markdown that shows it as it is: in reports, on Prefect's pages."""

from __future__ import annotations

import re

INLINE = re.compile(r"([\\`*\[\]~|])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Signs that could begin markup within a line; an underscore inside a word cannot."""
START = re.compile(r"^(#|[-+](?=\s|$)|[-=]{2,}|\d+(?=[.)](?:\s|$)))")
"""What could make a line a heading, a list or a rule."""
SCHEME = re.compile(r"\b(https?|ftp|mailto|www)(:|\.)", re.IGNORECASE)


def escape(text: str) -> str:
    """A paragraph or list item that Markdown shows as it is, on one line: no markup, no HTML, no link."""
    return START.sub(lambda match: f"{match[1]}\\" if match[1].isdigit() else f"\\{match[1]}", escape_cell(text))


def escape_cell(text: str) -> str:
    """A cell of a table, or text within a line: as `escape`, but nothing can begin at its start."""
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
