"""FineWeb's own rules."""

from __future__ import annotations

from collections.abc import Iterator

from conf.filters import FineWeb
from jobs.curation.prose import TERMINAL, Broken, Prose, repeated


def broken(document: Prose, rules: FineWeb) -> Iterator[Broken]:
    """The rules that a document breaks, in order."""
    text = document.text
    lines = [line for line in text.split("\n") if line.strip()]
    count = max(1, len(lines))
    punctuated = sum(line[-1] in TERMINAL for line in lines) / count
    if rules.min_punctuated_lines is not None and punctuated < rules.min_punctuated_lines:
        yield Broken("min_punctuated_lines", punctuated)
    short = sum(len(line) <= rules.short_line for line in lines) / count
    if rules.max_short_lines is not None and short > rules.max_short_lines:
        yield Broken("max_short_lines", short)
    line_ends = text.count("\n")
    again = repeated(lines)[1] / max(1, len(text) - line_ends)
    if rules.max_repeated_characters is not None and again > rules.max_repeated_characters:
        yield Broken("max_repeated_characters", again)
    # There are at least as many words as there are parts between spaces, which are quicker to count.
    if rules.max_line_ends is not None and line_ends > rules.max_line_ends * len(text.split()):
        ends = line_ends / max(1, len(document.words))
        if ends > rules.max_line_ends:
            yield Broken("max_line_ends", ends)
