"""Text recognition of PDF pages by tesseract: errors in characters and pages a second. `section` is a part of
`python -m tests.bench.extraction`.

Novels of ../shared/data/text/gutenberg are set in Helvetica of 11 points, drawn, and read; pages with a text layer of
../shared/data/pdf are drawn and read in the same way. The error rate is the edit distance over the characters of the
known text, white space counted as one space."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdfium2
from PIL import Image, ImageFilter

from conf.ocr import Ocr
from jobs.corpus.extract.ocr import Picture, Recognizer, ready
from jobs.corpus.extract.ocr_tesseract import TesseractEngine
from jobs.corpus.extract.pdf import tidy
from tests.fixtures.documents import pdf, shown

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LINES, PAGES = 48, 1
DPI = (300, 200, 150, 100)
REAL = {
    "pdfplumber/scotus-transcript-p1.pdf": ("eng", 1),
    "py-pdf/pdflatex-4-pages.pdf": ("eng", 2),
    "py-pdf/google-doc-document.pdf": ("eng", 1),
    "py-pdf/GeoTopo-komprimiert.pdf": ("deu", 3),
}
"""Files with a text layer: the language and how many pages of running text."""
FIRST = {"py-pdf/GeoTopo-komprimiert.pdf": 10}
"""Pages before are a title and contents."""


def distance(found: str, expected: str) -> int:
    """Insertions, deletions and replacements from one text to the other (Levenshtein), a row at a time."""
    theirs = np.frombuffer(expected.encode("utf-32-le"), np.uint32)
    steps = np.arange(len(theirs) + 1)
    row = steps.copy()
    for count, sign in enumerate(found, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (theirs != ord(sign)))
        # An insertion looks at the same row: the smallest of all to the left, each with its distance.
        row = np.minimum.accumulate(np.concatenate([[count], best]) - steps) + steps
    return int(row[-1])


def plain(text: str) -> str:
    """Text with single spaces."""
    return " ".join(text.split())


class Noisy:
    """Tesseract that is given pages as a poor scanner would make them: turned, soft and with noise."""

    def __init__(self, engine: TesseractEngine) -> None:
        self._engine, self._random = engine, np.random.default_rng(1)

    def read(self, picture: Picture, until: float) -> str:
        """The text of the page after it was spoilt."""
        image = Image.frombytes("L", (picture.width, picture.height), picture.pixels)
        image = image.rotate(0.7, fillcolor=255, resample=Image.Resampling.BICUBIC)
        image = image.filter(ImageFilter.GaussianBlur(1.2))
        noise = self._random.normal(0, 35, (picture.height, picture.width))
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "JPEG", quality=40)
        spoilt = Image.open(packed).tobytes()
        return self._engine.read(Picture(picture.width, picture.height, spoilt, picture.dpi), until)


def processor() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def novels() -> list[tuple[bytes, list[str]]]:
    """A PDF file of each novel, and the text of each of its pages."""
    found = []
    for path in sorted((SHARED / "text" / "gutenberg").glob("*.txt"))[:4]:
        lines = [line.strip() for line in path.read_text("latin-1").splitlines()]
        lines = [line for line in lines if line and line.isascii() and not set(line) & set("()\\_*'`")]
        pages = [lines[500 + LINES * page : 500 + LINES * (page + 1)] for page in range(PAGES)]
        found.append((pdf(*(shown(page) for page in pages)), [" ".join(page) for page in pages]))
    return found


def real(name: str) -> tuple[bytes, list[str]]:
    """A file of ../shared/data/pdf and the text of its pages that are read."""
    content = (SHARED / "pdf" / name).read_bytes()
    first, count = FIRST.get(name, 0), REAL[name][1]
    with pypdfium2.PdfDocument(content) as document:
        texts = [tidy(document[number].get_textpage().get_text_range()) for number in range(first, first + count)]
    return content, texts


def measured(
    files: list[tuple[bytes, list[str]]], settings: Ocr, first: int = 0, noisy: bool = False
) -> tuple[float, float, int]:
    """Error rate, pages a second of processor time, drawing included, and pages."""
    engine = TesseractEngine(settings)
    recognizer = Recognizer(settings, Noisy(engine) if noisy else engine)
    wrong, total, used = 0, 0, 0.0
    for content, texts in files:
        with pypdfium2.PdfDocument(content) as document:
            for number, expected in enumerate(texts, first):
                begin = processor()
                found = plain(recognizer.text(document[number]))
                used += processor() - begin
                wrong, total = wrong + distance(found, plain(expected)), total + len(plain(expected))
    pages = sum(len(texts) for _, texts in files)
    return wrong / total, pages / used, pages


def rows() -> Iterator[str]:
    """Rows of the table."""
    drawn = novels()
    for dpi in DPI:
        error, speed, pages = measured(drawn, Ocr(dpi=dpi))
        yield f"| English novels, set and drawn | {dpi} | {pages} | {error:.2%} | {speed:.2f} |"
    error, speed, pages = measured(drawn, Ocr(), noisy=True)
    yield f"| the same, turned by 0.7 degrees, soft, with noise | 300 | {pages} | {error:.2%} | {speed:.2f} |"
    for name, (language, _) in REAL.items():
        error, speed, pages = measured([real(name)], Ocr(languages=(language,)), FIRST.get(name, 0))
        yield f"| {name.partition('/')[2]} ({language}) | 300 | {pages} | {error:.2%} | {speed:.2f} |"


def section() -> str:
    """The part of extraction.md; says so where tesseract, or its German, is missing."""
    try:
        engine, languages = ready(Ocr(languages=("eng", "deu")))
    except ValueError as error:
        return f"OCR is not measured: {error}"
    table = "\n".join(rows())
    data = ", ".join(f"{name} {digest}" for name, digest in languages.items())
    return f"""OCR by {engine} ({data}), one page at a time with one thread; pages a second of processor time, drawing
and starting the program included. The known text of real files is their text layer, so another order
of headings, formulas and page numbers counts as errors.

| pages | dpi | number | characters wrong | pages/s |
|---|---:|---:|---:|---:|
{table}"""


if __name__ == "__main__":
    print(section())
