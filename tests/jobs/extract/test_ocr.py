"""PDF pages that are images: which are drawn, at what size, and what is counted of them."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image

from conf.extraction import Extract
from conf.ocr import Ocr
from jobs.corpus.extract import ocr
from jobs.corpus.extract.ocr import Failed, Picture, Recognizer, Unavailable, drawn, ready
from jobs.corpus.extract.pdf import read_pdf
from tests.fixtures.documents import SENTENCES, pdf, shown
from tests.fixtures.programs import put_tesseract

IMAGE = pdf("", image=True)
PICTURE = Picture(4, 2, bytes([0, 80, 160, 255] * 2), 300)


class Spoken:
    """An engine that answers in turn: a text, or an error."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers, self.pictures, self.left = list(answers), list[Picture](), list[float]()

    def read(self, picture: Picture, until: float) -> str:
        self.pictures.append(picture)
        self.left.append(until - time.monotonic())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def read(content: bytes, engine: Any, **settings: Any) -> tuple[dict[str, Any], Recognizer]:
    asked = Ocr.model_validate(settings)
    recognizer = Recognizer(asked, engine)
    return read_pdf(content, Extract(ocr=asked), None, recognizer), recognizer


def test_only_pages_that_need_it_go_to_the_engine() -> None:
    engine = Spoken("Read by eye.\n\n", "Page three.")
    mixed = pdf("", shown(SENTENCES), shown(["p. 3"]), image=True)
    answer, _ = read(mixed, engine)
    assert answer["text"] == "Read by eye.\n\n" + "\n".join(SENTENCES) + "\n\nPage three."
    assert len(engine.pictures) == 2 and (answer["pages"], answer["ocr_pages"]) == (3, 2)
    assert {name: answer["ocr"][name] for name in ("pages", "characters", "reduced", "failed")} == {
        **{"pages": 2, "characters": 23, "reduced": 0, "failed": {}},
    }
    assert read(pdf(shown(SENTENCES)), Spoken())[0].keys() == {"text", "pages", "ocr_pages"}


def test_pages_that_fail_are_counted_by_reason() -> None:
    failing = Spoken("Only this.", Failed("timed out"), " \n", Failed("timed out"))
    answer, _ = read(pdf("", "", "", "", image=True), failing)
    assert answer["reason"] == "needs OCR: 3 of 4 pages are images, timed out (2), no text (1)"
    assert answer["ocr"]["failed"] == {"timed out": 2, "no text": 1} and answer["ocr"]["pages"] == 1
    spared, _ = read(pdf("", "", "", image=True), Spoken("One.", Failed("status 400"), "Three."))
    assert spared["text"] == "One.\n\nThree." and spared["ocr"]["failed"] == {"status 400": 1}


def test_an_engine_that_is_away_ends_it() -> None:
    with pytest.raises(Unavailable, match="away"):
        read(IMAGE, Spoken(Unavailable("away")))


def test_each_page_has_its_time_and_is_enclosed() -> None:
    engine, seen = Spoken("a b c"), list[str]()

    class Around:
        def __enter__(self) -> None:
            seen.append("begin")

        def __exit__(self, *error: object) -> None:
            seen.append("end")

    recognizer = Recognizer(Ocr(seconds=7), engine, Around)
    read_pdf(IMAGE, Extract(), None, recognizer)
    assert seen == ["begin", "end"] and 5 < engine.left[0] <= 7
    assert 0 < recognizer.seconds < 2


def test_a_page_is_drawn_at_its_resolution() -> None:
    engine = Spoken("a b c")
    read(pdf("", image=True), engine, dpi=144)
    picture = engine.pictures[0]
    assert (picture.width, picture.height, picture.dpi) == (1224, 1584, 144)
    assert len(picture.pixels) == 1224 * 1584 and set(picture.pixels) == {128}


def test_a_row_of_pixels_has_no_padding() -> None:
    with pypdfium2.PdfDocument(pdf(shown(SENTENCES))) as document:
        picture = drawn(document[0], 73)  # 620.5 points wide: 621 bytes in rows of 624
        expected = document[0].render(scale=73 / 72, grayscale=True).to_pil()
    assert picture.width % 4 and (picture.width, picture.height) == expected.size
    assert picture.pixels == expected.tobytes() and len(set(picture.pixels)) > 9


def test_a_large_page_is_drawn_smaller_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "MOST_PIXELS", 4 * 612 * 792)
    engine = Spoken("a b c", "d e f")
    answer, _ = read(IMAGE, engine, dpi=300)
    small = engine.pictures[0]
    assert small.width * small.height <= 4 * 612 * 792 and small.dpi == 143
    assert answer["ocr"]["reduced"] == 1
    assert read(IMAGE, engine, dpi=144)[0]["ocr"]["reduced"] == 0 and engine.pictures[1].dpi == 144


def test_pictures_are_read_by_others() -> None:
    for content in (PICTURE.pgm(), PICTURE.png()):
        image = Image.open(io.BytesIO(content))
        assert (image.size, image.mode, image.tobytes()) == ((4, 2), "L", PICTURE.pixels)


def test_what_recognizes_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path)
    engine, languages = ready(Ocr(languages=("eng", "tur")))
    assert engine == "tesseract 9.8.7" and languages["tur"] == "unknown" and len(languages["eng"]) == 16
    server = Ocr(endpoint="http://host/v1", model="eyes", api_key_env="EYES_KEY")
    with pytest.raises(ValueError, match="EYES_KEY, which is not set"):
        ready(server)
    monkeypatch.setenv("EYES_KEY", "x")
    assert ready(server) == ("model eyes", {})
