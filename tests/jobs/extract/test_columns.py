"""The order of text in columns: kept where it is drawn as it is read, or as cells of a table; else the page decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conf.extraction import Extract
from conf.stages.data import DataConfig
from jobs.corpus.extract.columns import Boxes, across
from jobs.corpus.extract.pdf import read_pdf
from jobs.corpus.extract_counts import Extracted
from tests.fixtures.documents import SENTENCES, pdf, shown

REAL = Path("../shared/data/pdf")
LEFT = [
    f"{number} on the left side of the page, where it be-"
    if number == 3
    else f"{number} on the left side of the page, as all know"
    for number in range(8)
]
RIGHT = [f"{number} on the right side of it, and further down" for number in range(8)]
X = (72, 318)
"""Where the columns begin; a line of 11 points is about 230 wide."""


def at(text: str, left: float, top: float) -> str:
    return f"BT /F1 11 Tf {left} {top} Td ({text}) Tj ET\n"


def lines(*columns: list[str], top: float = 700, step: float = 14) -> list[list[str]]:
    return [
        [at(text, left, top - step * row) for row, text in enumerate(column)]
        for left, column in zip(X, columns, strict=False)
    ]


def rowwise(*columns: list[str], top: float = 700) -> str:
    return "".join("".join(row) for row in zip(*lines(*columns, top=top), strict=True))


def read(content: str, order: str = "reading") -> str:
    return str(read_pdf(pdf(content), Extract.model_validate({"order": order}))["text"])


READ = "\n".join([*LEFT[:3], LEFT[3][:-1] + LEFT[4], *LEFT[5:], *RIGHT])


def test_columns_drawn_row_by_row_are_read_in_turn() -> None:
    drawn = rowwise(LEFT, RIGHT)
    assert read(drawn) == READ
    assert read(drawn, "drawn").startswith(f"{LEFT[0]} {RIGHT[0]}\n")


def test_pages_in_another_order_are_counted() -> None:
    content = pdf(rowwise(LEFT, RIGHT), shown(SENTENCES), rowwise(LEFT, RIGHT))
    assert read_pdf(content, Extract(order="reading"))["reordered"] == 2
    assert "reordered" not in read_pdf(content, Extract())
    found = Extracted(given=1, pages=3, reordered=2)
    assert found.counts()["pdf_pages_reordered"] == 2 and "pdf_pages_reordered" not in Extracted().counts()
    assert "2 of 3 PDF pages were put in order: drawn across columns" in found.sentences()


def test_columns_drawn_backwards_are_read_in_turn() -> None:
    left, right = lines(LEFT, RIGHT)
    assert read("".join(right + left)) == READ
    assert read("".join(right[::-1] + left[::-1])) == READ


def test_what_crosses_the_columns_stays_between_them() -> None:
    title = at("A title that is as wide as both of the columns, and says what they are about, all of it", 72, 740)
    halves = rowwise(LEFT[:5], RIGHT[:5]), rowwise(LEFT[5:] + LEFT[:2], RIGHT[5:] + RIGHT[:2], top=600)
    middle = at("A line between them that is as wide as both of the columns, after which they begin again", 72, 618)
    text = read(title + halves[0] + middle + halves[1] + at("17", 306, 60)).split("\n")
    assert text[0].startswith("A title") and text[-1] == "17"
    assert text[1:4] == LEFT[:3] and text[5:10] == RIGHT[:5] and text[10].startswith("A line between")
    assert text[11:16] == [*LEFT[5:], *LEFT[:2]] and text[16:21] == [*RIGHT[5:], *RIGHT[:2]]


def test_columns_drawn_in_turn_stay_as_they_are() -> None:
    left, right = lines(LEFT, RIGHT)
    drawn = "".join(left + right)
    assert read(drawn) == read(drawn, "drawn")


def test_cells_of_several_lines_stay_as_they_are() -> None:
    left, right = lines(LEFT, RIGHT)
    drawn = "".join("".join(left[row : row + 2] + right[row : row + 2]) for row in range(0, 8, 2))
    assert read(drawn) == read(drawn, "drawn")


def test_a_table_stays_as_it_is() -> None:
    numbers = [f"{number},000" for number in range(8)]
    for one, two in ((numbers, numbers), (LEFT, numbers), (numbers, RIGHT)):
        drawn = rowwise(one, two)
        assert read(drawn) == read(drawn, "drawn")


def test_a_single_column_stays_as_it_is() -> None:
    for drawn in (shown(SENTENCES * 5), shown(SENTENCES), ""):
        content = pdf(drawn, "")
        unchanged = read_pdf(content, Extract()) | {"reordered": 0}
        assert read_pdf(content, Extract(order="reading")) == unchanged


def test_a_turned_page_is_read_as_it_is_seen() -> None:
    drawn = rowwise(LEFT, RIGHT)
    turned = {
        90: "0 1 -1 0 612 0 cm\n",
        180: "-1 0 0 -1 612 792 cm\n",
        270: "0 -1 1 0 0 792 cm\n",
    }
    for turn, matrix in turned.items():
        content = pdf(matrix + drawn).replace(b"/Type /Page /Parent", b"/Type /Page /Rotate %d /Parent" % turn)
        assert read_pdf(content, Extract(order="reading", truncated="keep"))["text"] == READ, turn


HEBREW = b"""99 0 obj
<< /Length 190 >>
stream
/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange
1 beginbfrange <61> <7A> <05D0> endbfrange endcmap CMapName currentdict /CMap defineresource pop end end
endstream
endobj
"""
"""Small letters are Hebrew ones."""


def test_the_right_column_is_first_where_text_runs_leftward() -> None:
    drawn = pdf(rowwise([line[8:] for line in LEFT], [line[8:] for line in RIGHT]))
    hebrew = drawn.replace(b"/BaseFont /Helvetica", b"/BaseFont /Helvetica /ToUnicode 99 0 R")
    hebrew = hebrew.replace(b"xref\n", HEBREW + b"xref\n", 1)
    text = read_pdf(hebrew, Extract(order="reading", truncated="keep"))["text"].split("\n")
    assert len(text) == 16 and all("\u05d0" <= sign <= "\u05ea" or not sign.isalpha() for sign in "".join(text))
    further = "".join(chr(0x05D0 + ord(sign) - 97) for sign in "further")
    assert all(further in line or further[::-1] in line for line in text[:8])
    assert not any(further in line or further[::-1] in line for line in text[8:])


def boxes(*columns: tuple[float, float, int], order: str = "rows", tall: float = 10) -> Boxes:
    """Lines of 14 points below each other, in columns by left, right and number of lines."""
    found = [
        (row, left, 700 - 14 * row, right, 700 - 14 * row + tall)
        for left, right, count in columns
        for row in range(count)
    ]
    if order == "rows":
        found.sort(key=lambda box: box[0])
    return np.array([box[1:] for box in found], float)


TWO = ((0.0, 200.0, 6), (220.0, 420.0, 6))


def test_two_columns_have_a_cut_in_the_strip() -> None:
    layout = across(boxes(*TWO))
    assert layout and len(layout.cuts) == 1 and 200 < layout.cuts[0] < 220
    assert layout.bands == ((-np.inf, np.inf),)
    assert layout.columns(boxes(*TWO)).tolist() == [0, 1] * 6


def test_bands_end_halfway_to_what_crosses() -> None:
    halves = boxes(*TWO).reshape(2, 6, 4) + np.array([0, 40, 0, 40]) * np.array([[[1]], [[-1]]])
    title, line = np.array([[0.0, 800, 420, 810]]), np.array([[0.0, 650, 420, 660]])
    layout = across(np.concatenate([title, halves[0], line, halves[1]]))
    assert layout and layout.bands == ((686, 775), (-np.inf, 639))
    found = layout.band(np.concatenate([title, halves[0], line, halves[1]]))
    assert found.tolist() == [0, *[1] * 6, 2, *[3] * 6]


def test_what_lies_far_away_is_not_looked_at() -> None:
    for far in (1e9, np.inf, np.nan):
        layout = across(np.concatenate([boxes(*TWO), [[far, 700, far, 710], [0, 0, far, 9]]]))
        assert layout and len(layout.cuts) == 1


def test_three_columns_have_two_cuts() -> None:
    layout = across(boxes(*TWO, (440, 640, 6)))
    assert layout and len(layout.cuts) == 2
    assert across(boxes(*TWO, (440, 640, 6), order="columns")) is None


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (((0, 200, 4), (220, 420, 4)), True),
        (((0, 200, 4), (220, 420, 3)), False),  # too few lines
        (((0, 200, 6), (206, 420, 6)), True),  # a strip of 6 points, line 10
        (((0, 200, 6), (203, 420, 6)), False),  # one of 3
        (((0, 200, 6), (220, 321, 6)), True),  # lines ten times as wide as they are high
        (((0, 200, 6), (220, 319, 6)), False),  # cells
    ],
)
def test_columns_have_bounds(columns: tuple[tuple[float, float, int], ...], found: bool) -> None:
    assert (across(boxes(*columns)) is not None) is found


def test_a_column_is_filled_by_its_lines() -> None:
    for width, found in ((155, True), (145, False)):
        ragged = boxes(*TWO)
        ragged[1::2, 2] = 220 + width
        ragged[1, 2] = 420
        assert (across(ragged) is not None) is found, width


def test_half_of_a_page_may_cross_the_columns() -> None:
    for crossing, found in ((5, True), (7, False)):
        wide = boxes((0, 420, crossing)) + np.array([0, 400, 0, 400])
        assert (across(np.concatenate([wide, boxes(*TWO)])) is not None) is found, crossing


def test_runs_of_two_lines_are_cells() -> None:
    rows = boxes(*TWO).reshape(6, 2, 4)
    pairs = np.concatenate([rows[at : at + 2].transpose(1, 0, 2).reshape(-1, 4) for at in (0, 2, 4)])
    assert across(pairs) is None
    assert across(np.concatenate([rows[:2].transpose(1, 0, 2).reshape(-1, 4), rows[2:].reshape(-1, 4)])) is not None


def test_boxes_of_one_line_are_one() -> None:
    """Words, each a box: the line is as wide as all of them."""
    words = np.concatenate([boxes((left, left + 36, 6)) for left in (0, 40, 80, 120, 160, 220, 260, 300, 340, 380)])
    words = words[np.argsort(-words[:, 3], kind="stable")]
    assert across(words) is not None
    assert across(words[:7]) is None and across(np.zeros((9, 4))) is None


def test_real_files_are_read_as_they_are_drawn() -> None:
    if not REAL.is_dir():
        pytest.skip("no ../shared/data/pdf")
    for path in REAL.rglob("*.pdf"):
        if 0 < path.stat().st_size < 70_000:
            content = path.read_bytes()
            found, drawn = read_pdf(content, Extract(order="reading")), read_pdf(content, Extract())
            assert found == drawn | ({"reordered": 0} if "pages" in drawn else {}), path.name


def test_the_order_enters_a_key_only_where_it_is_set() -> None:
    asked = DataConfig.model_validate({"source": "world", "extract": {"order": "drawn", "seconds": 9}})
    assert "order" not in asked.identity()["extract"]
    changed = DataConfig.model_validate({"source": "world", "extract": {"order": "reading"}})
    assert changed.identity()["extract"]["order"] == "reading"


def test_lines_that_go_up_too_often_are_in_no_order() -> None:
    """Runs of two lines and more, as of a table's cells; but in half of them each second line is above the first."""
    rows = boxes((0, 200, 12), (220, 420, 12)).reshape(12, 2, 4)
    for swapped, found in ((3, False), (4, True)):  # of 24 boxes, 6 or 8 go up
        order = [
            at for pair in range(6) for at in ((2 * pair + 1, 2 * pair) if pair < swapped else (2 * pair, 2 * pair + 1))
        ]
        cells = np.concatenate([rows[order[at : at + 2]].transpose(1, 0, 2).reshape(-1, 4) for at in range(0, 12, 2)])
        assert (across(cells) is not None) is found, swapped


def test_words_drawn_at_random_are_lines_again() -> None:
    """Helvetica's digits are all 6.12 points wide at 11, and a space is half of that."""
    columns = [
        [[f"{column}{row}{word}" + "0" * ((row + word) % 6) for word in range(6)] for row in range(9)]
        for column in range(2)
    ]
    drawn = [
        at(word, X[column] + 6.12 * len("".join(words[:number])) + 3.06 * number, 700 - 14 * row)
        for column, rows in enumerate(columns)
        for row, words in enumerate(rows)
        for number, word in enumerate(words)
    ]
    for seed in range(5):
        np.random.default_rng(seed).shuffle(drawn)
        assert read("".join(drawn)).split("\n") == [" ".join(words) for rows in columns for words in rows]
