"""Pages of a novel set in columns and drawn in several orders, for `python -m tests.bench.extraction`. No real file in
../shared/data has columns that are drawn in another order than they are read."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator
from pathlib import Path

from conf.extraction import Extract
from jobs.corpus.extract.pdf import read_pdf
from tests.fixtures.documents import pdf

NOVEL = Path(__file__).resolve().parents[3] / "shared" / "data" / "text" / "gutenberg" / "austen-persuasion.txt"
LINES, STEP, PAPER, GAP = 46, 14, 468, 16
TITLE = "A title above the columns, which is as wide as all of them together and a little more than that"


def read() -> Iterator[tuple[str, tuple[str, str], str]]:
    """How a page is drawn, its text as drawn and in order of reading, and the text that was set."""
    for name, count, title in (
        ("column by column", 2, False),
        ("row by row", 2, False),
        ("row by row", 3, False),
        ("row by row, a title above", 2, True),
        ("word by word, row by row", 2, False),
        ("the last column first", 2, False),
        ("at random", 2, False),
    ):
        columns = _set(count)
        content = pdf(_drawn(columns, name, title))
        texts = [str(read_pdf(content, Extract.model_validate({"order": order}))["text"]) for order in ORDERS]
        lines = [line for column in columns for line in column]
        label = f"{'two' if count == 2 else 'three'} columns, {name}"
        yield label, (texts[0], texts[1]), "\n".join([TITLE] * title + lines)


ORDERS = ("drawn", "reading")


def _set(count: int) -> list[list[str]]:
    """Lines of each column, as wide as Helvetica of 11 points makes them."""
    text = " ".join(NOVEL.read_text("latin-1").split())[5000:40_000]
    width = int((PAPER - GAP * (count - 1)) / count / 5.6)
    plain = "".join(sign for sign in text if sign.isascii() and sign not in "()\\'")
    lines = textwrap.wrap(plain, width, break_on_hyphens=False)
    return [lines[LINES * column : LINES * (column + 1)] for column in range(count)]


def _drawn(columns: list[list[str]], name: str, title: bool) -> str:
    width = (PAPER + GAP) / len(columns)
    shown = [
        (number, row, f"BT /F1 11 Tf {72 + number * width:g} {700 - STEP * row} Td {_parts(line, name)} ET\n")
        for number, column in enumerate(columns)
        for row, line in enumerate(column)
    ]
    if "row by row" in name:
        shown.sort(key=lambda one: one[1])
    elif name == "the last column first":
        shown.sort(key=lambda one: -one[0])
    elif name == "at random":
        random.Random(1).shuffle(shown)
    return (f"BT /F1 11 Tf 72 740 Td ({TITLE}) Tj ET\n" if title else "") + "".join(one[2] for one in shown)


def _parts(line: str, name: str) -> str:
    return " ".join(f"({word} ) Tj" for word in line.split()) if name.startswith("word") else f"({line}) Tj"
