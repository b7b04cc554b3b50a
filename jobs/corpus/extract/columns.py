"""Pages whose columns are drawn in another order than they are read: row by row across all of them, or the last one
first. Runs in a worker process only.

The order in which a file draws its text is the order of reading on nearly every page, also in tables, and only it knows
where a box or a note belongs. So it is kept wherever it does not go back from a column to one before it; and where it
goes back after several lines each time, as from the cells of one row of a table to the next. Only then does the place
on the page decide, by cuts at white strips: across the page at lines that are wider than a column, then between the
columns (as in recursive X-Y cuts, Nagy and Seth 1984)."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

FEWEST_LINES = 4
"""Lines of a column."""
FEWEST_BOXES = 2 * FEWEST_LINES
WIDE = 10.0
"""Width of a column's usual line over its height, from which it is text and not a table's cell: 20 characters."""
FILLED = 0.75
"""Share of its column that the usual line fills: above 0.85 in text, less in lists side by side."""
GUTTER = 0.5
"""Width of the strip between columns over the usual height of a line, at least."""
CROSSED = 0.5
"""Share of the text, by height, that may cross the strip: titles, figures and what has one column."""
UPWARDS = 0.25
"""Share of the boxes that stand above the one drawn before them in their column, above which the order is chance."""
FEW = 2.5
"""Lines that may lie in the strip beside those that cross it, as page numbers do."""
RUN = 2.0
"""Lines in a row of one column, on average, below which the drawing order goes across the columns."""
FARTHEST = 20_000.0
"""Points from the page's corner, above all paper: what lies beyond is not looked at."""
SAME_LINE = 0.5
"""Share of the lower one's height by which two boxes of one line overlap."""
RIGHT_TO_LEFT = ("R", "AL")
"""Directions of letters (Unicode) of text whose first column is the right one."""
AT_LINE_END = 2
"""PDFium's code of a hyphen at the end of a line, in drawing order."""
HYPHEN = "\ufffe"
"""PDFium's mark for a hyphen at the end of a line, which `pdf.tidy` reads."""
Boxes = npt.NDArray[np.float64]
"""Left, bottom, right and top of each box, as a page is seen."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The left ends of columns beyond the first, in points, and the bands between lines that cross them, from the top:
    each with its bottom and top."""

    cuts: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]

    def columns(self, boxes: Boxes) -> npt.NDArray[np.int64]:
        """The column of each box by its middle."""
        found: npt.NDArray[np.int64] = np.searchsorted(self.cuts, (boxes[:, 0] + boxes[:, 2]) / 2, "right")
        return found

    def band(self, boxes: Boxes) -> npt.NDArray[np.int64]:
        """The band of each box by its middle; what is below all of them, or between, has an odd number."""
        edges = [-edge for bottom, top in self.bands for edge in (top, bottom)]
        found: npt.NDArray[np.int64] = np.searchsorted(edges, -(boxes[:, 1] + boxes[:, 3]) / 2)
        return found


def reordered(page: Any, lines: Any) -> str | None:
    """The text of a PDFium page and its text page in the order of reading; None where that is as it is drawn."""
    count = lines.count_rects()
    if not count:
        return None
    boxes = _turned(np.array([lines.get_rect(number) for number in range(count)]), page)
    layout = across(boxes)
    return _text(page, lines, layout) if layout else None


def across(boxes: Boxes) -> Layout | None:
    """The columns of boxes in their drawing order, None where there are none or they are drawn as they are read."""
    boxes = boxes[(np.abs(boxes) < FARTHEST).all(axis=1) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if len(boxes) < FEWEST_BOXES:
        return None
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    cuts = _gutters(boxes, height)
    if not cuts:
        return None
    crossing = np.zeros(len(boxes), bool)
    for cut in cuts:
        crossing |= (boxes[:, 0] < cut) & (boxes[:, 2] > cut)
    within = boxes[~crossing]
    layout = Layout(cuts, _bands(within, boxes[crossing]))
    columns, bands = layout.columns(within), layout.band(within)
    if not ((np.diff(columns) < 0) & (np.diff(bands) == 0)).any():  # most pages, and the rest takes time
        return None
    if not _is_text(within, columns, bands, len(cuts) + 1, height):
        return None
    return layout if _goes_up(within, columns, bands, height) or _goes_across(within, columns, bands) else None


def _gutters(boxes: Boxes, height: float) -> tuple[float, ...]:
    """The middles of white strips within the text, from left to right: what crosses them is little beside what lies on
    both sides."""
    start, stop = boxes[:, 0].min(), boxes[:, 2].max()
    size = int(stop - start) + 2
    change = np.zeros(size + 1)
    tall = boxes[:, 3] - boxes[:, 1]
    np.add.at(change, (boxes[:, 0] - start).astype(int), tall)
    np.add.at(change, np.ceil(boxes[:, 2] - start).astype(int), -tall)
    covered = np.cumsum(change)[:size]
    low = covered <= CROSSED * np.quantile(covered, 0.75)
    found, at = [], 0
    for is_low, group in groupby(low.tolist()):
        width = len(list(group))
        if is_low and width >= GUTTER * height and at > 0 and at + width < size - 1:
            # Ragged right ends are low too, and a page number stands between the columns: the strip is where hardly
            # any line lies.
            strip = covered[at : at + width]
            found.append(float(start + at + 0.5 + np.median(np.flatnonzero(strip <= strip.min() + FEW * height))))
        at += width
    return tuple(found)


def _bands(within: Boxes, crossing: Boxes) -> tuple[tuple[float, float], ...]:
    """What lies between lines that cross the strips, from the top down: bottom and top of each, halfway to those
    lines."""
    middles = [(middle, False) for middle in ((within[:, 1] + within[:, 3]) / 2).tolist()]
    middles += [(middle, True) for middle in ((crossing[:, 1] + crossing[:, 3]) / 2).tolist()]
    found, top = [], math.inf
    groups = [list(group) for _, group in groupby(sorted(middles, reverse=True), lambda one: one[1])]
    for number, group in enumerate(groups):
        after = groups[number + 1][0][0] if number + 1 < len(groups) else -math.inf
        bottom = (group[-1][0] + after) / 2
        if not group[0][1]:
            found.append((bottom, top))
        top = bottom
    return tuple(found)


def _is_text(
    boxes: Boxes, columns: npt.NDArray[np.int64], bands: npt.NDArray[np.int64], count: int, height: float
) -> bool:
    """Whether each column is of lines of text that lie beside those of the next."""
    for column in range(count):
        lines = _lines(boxes[columns == column], bands[columns == column])
        if len(lines) < FEWEST_LINES:
            return False
        widths = np.array([line[1] - line[0] for line in lines])
        filled = max(line[1] for line in lines) - min(line[0] for line in lines)
        usual = float(np.median(widths))
        if usual < WIDE * height or usual < FILLED * filled:
            return False
    return True


def _lines(boxes: Boxes, bands: npt.NDArray[np.int64]) -> list[tuple[float, float]]:
    """Left and right of the lines of one column, from the top down."""
    found: list[tuple[float, float, float, float, int]] = []
    for left, bottom, right, top, band in sorted(
        ((*box, band) for box, band in zip(boxes.tolist(), bands.tolist(), strict=True)), key=lambda one: -one[3]
    ):
        if found and _beside(found[-1], (left, bottom, right, top)) and found[-1][4] == band:
            last = found.pop()
            left, bottom = min(left, last[0]), min(bottom, last[1])
            right, top = max(right, last[2]), max(top, last[3])
        found.append((left, bottom, right, top, band))
    return [(line[0], line[2]) for line in found]


def _beside(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes are of one line."""
    common = min(one[3], other[3]) - max(one[1], other[1])
    return common > SAME_LINE * min(one[3] - one[1], other[3] - other[1])


def _goes_up(boxes: Boxes, columns: npt.NDArray[np.int64], bands: npt.NDArray[np.int64], height: float) -> bool:
    """Whether boxes of a column follow each other upwards too often for any order but chance."""
    middles, ups = (boxes[:, 1] + boxes[:, 3]) / 2, 0
    places = bands * (columns.max() + 1) + columns
    for place in np.unique(places):
        ups += int((np.diff(middles[places == place]) > height / 2).sum())
    return ups > UPWARDS * len(boxes)


def _goes_across(boxes: Boxes, columns: npt.NDArray[np.int64], bands: npt.NDArray[np.int64]) -> bool:
    """Whether boxes that go back from a column to one before it do so line by line, or once for each column; else they
    are the cells of a table, or boxes of several lines."""
    visits = lines = 0
    previous: tuple[int, int, list[float]] | None = None
    for box, column, band in zip(boxes.tolist(), columns.tolist(), bands.tolist(), strict=True):
        if previous and (previous[0], previous[1]) == (band, column):
            lines += not _beside(tuple(previous[2]), tuple(box))
        else:
            visits, lines = visits + 1, lines + 1
        previous = (band, column, box)
    needed = len({(band, column) for band, column in zip(bands.tolist(), columns.tolist(), strict=True)})
    return lines / visits < RUN or visits == needed


@dataclass(slots=True)
class _Piece:
    """Signs that follow each other in one column; `box` encloses them."""

    band: int
    column: int
    box: tuple[float, float, float, float]
    text: str


def _text(page: Any, lines: Any, layout: Layout) -> str:
    """The text of the page, band by band and column by column."""
    pieces = _pieces(page, lines, layout)
    letters = [unicodedata.bidirectional(sign) for piece in pieces for sign in piece.text if sign.isalpha()]
    leftward = 2 * sum(letter in RIGHT_TO_LEFT for letter in letters) > len(letters)
    # What crosses the columns is a band of its own, and has one column.
    pieces.sort(key=lambda one: (one.band, (-one.column if leftward else one.column) * (one.band % 2), -one.box[3]))
    text = ""
    for _, group in groupby(pieces, lambda one: (one.band, one.column * (one.band % 2))):
        for line in _joined(list(group)):
            words = " ".join(piece.text for piece in sorted(line, key=lambda one: one.box[0] * (1 - 2 * leftward)))
            parted = text[-2:-1].isalpha() and text.endswith("-") and words[:1].isalnum()
            text = f"{text[:-1]}{HYPHEN}{words}" if parted else f"{text}\n{words}"
    return text.strip()


def _joined(pieces: list[_Piece]) -> list[list[_Piece]]:
    """The pieces of each line, from the top down."""
    found: list[list[_Piece]] = []
    for piece in pieces:
        if found and _beside(found[-1][0].box, piece.box):
            found[-1].append(piece)
        else:
            found.append([piece])
    return found


def _pieces(page: Any, lines: Any, layout: Layout) -> list[_Piece]:
    """The signs of a page, cut where a line or a column ends."""
    signs, boxes, drawn = _signs(lines)
    turned = _turned(boxes, page)
    columns, bands = layout.columns(turned).tolist(), layout.band(turned).tolist()
    found: list[_Piece] = []
    parted = True
    for sign, box, has_box, column, band in zip(signs, turned.tolist(), drawn, columns, bands, strict=True):
        if not has_box or sign.isspace():  # PDFium's own spaces and line ends have no place
            parted |= sign in "\r\n"
            if found and not parted and not found[-1].text.endswith(" "):
                found[-1].text += " "
            continue
        last = found[-1] if found else None
        same = last and not parted and last.band == band and (last.column == column or band % 2 == 0)
        if last and same and _follows(last.box, box):
            left, bottom, right, top = last.box
            last.box = (min(left, box[0]), min(bottom, box[1]), max(right, box[2]), max(top, box[3]))
            last.text += sign
        else:
            found.append(_Piece(band, column, (box[0], box[1], box[2], box[3]), sign))
        parted = False
    for piece in found:
        piece.text = piece.text.strip()
    return found


def _follows(one: tuple[float, float, float, float], box: list[float]) -> bool:
    """Whether a sign stands in the same line as what was drawn before it, on either side and no farther than it is
    high: the next word may be drawn at another place."""
    return _beside(one, tuple(box)) and max(box[0] - one[2], one[0] - box[2]) <= one[3] - one[1]


def _signs(lines: Any) -> tuple[str, Boxes, list[bool]]:
    """The signs of a text page, their boxes, and whether they have one."""
    from pypdfium2 import raw

    count, box = lines.count_chars(), raw.FS_RECTF()
    signs, boxes, drawn = [], np.zeros((count, 4)), []
    for number in range(count):
        code = raw.FPDFText_GetUnicode(lines, number)
        signs.append("-" if code == AT_LINE_END else chr(code) if _is_sign(code) else "\ufffd")
        # The font's height, not the sign's: a comma lies below the letters of its line.
        has_box = raw.FPDFText_GetLooseCharBox(lines, number, box)
        boxes[number] = (box.left, box.bottom, box.right, box.top)
        drawn.append(bool(has_box) and box.right > box.left and raw.FPDFText_IsGenerated(lines, number) != 1)
    return "".join(signs), boxes, drawn


def _is_sign(code: int) -> bool:
    return code < 0x110000 and not 0xD800 <= code < 0xE000


def _turned(boxes: Boxes, page: Any) -> Boxes:
    """Boxes of a page that is shown turned, as they are seen."""
    left, bottom, right, top = boxes.T
    turns = {90: (bottom, -right, top, -left), 180: (-right, -top, -left, -bottom), 270: (-top, left, -bottom, right)}
    return np.stack(turns.get(page.get_rotation(), (left, bottom, right, top)), axis=1)
