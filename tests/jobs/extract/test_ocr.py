"""PDF pages that are images: drawn, read by tesseract, counted. A small program stands in for tesseract; one test asks
the real one."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image

from conf.extraction import Extract
from conf.ocr import Ocr
from jobs.corpus.extract import ocr
from jobs.corpus.extract.kept import Kept, folder_of
from jobs.corpus.extract.ocr import Failed, Picture, Recognizer, Unavailable, drawn, ready
from jobs.corpus.extract.ocr_tesseract import TesseractEngine
from jobs.corpus.extract.pdf import read_pdf
from jobs.corpus.ocr_counts import Recognized
from tests.fixtures.documents import SENTENCES, pdf, scanned, shown
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


def test_tesseract_is_called_once_a_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = put_tesseract(monkeypatch, tmp_path)
    settings = Ocr(languages=("eng", "tur"))
    text = TesseractEngine(settings).read(PICTURE, time.monotonic() + 20)
    assert text == "The miller ground his corn.\n"
    assert calls.read_text().split()[:6] == ["stdin", "stdout", "-l", "eng+tur", "--dpi", "300"]
    assert "[b'P5', b'4', b'2']" in calls.read_text() and calls.read_text().split()[-2] == "1"


def test_tesseract_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path, code=3, says="Image too small")
    with pytest.raises(Failed, match="tesseract ended with 3: Image too small"):
        TesseractEngine(Ocr()).read(PICTURE, time.monotonic() + 20)


def test_tesseract_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path, sleeps=60)
    begin = time.monotonic()
    for seconds in (0.3, -1):
        with pytest.raises(Failed, match="timed out"):
            TesseractEngine(Ocr()).read(PICTURE, time.monotonic() + seconds)
    assert time.monotonic() - begin < 30


def test_tesseract_that_is_gone_ends_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="cannot start tesseract"):
        TesseractEngine(Ocr()).read(PICTURE, time.monotonic() + 20)


def test_what_recognizes_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path)
    engine, languages = ready(Ocr(languages=("eng", "tur")))
    assert engine == "tesseract 9.8.7" and languages["tur"] == "unknown" and len(languages["eng"]) == 16
    server = Ocr(endpoint="http://host/v1", model="eyes", api_key_env="EYES_KEY")
    with pytest.raises(ValueError, match="EYES_KEY, which is not set"):
        ready(server)
    monkeypatch.setenv("EYES_KEY", "x")
    assert ready(server) == ("model eyes", {})


def test_a_page_that_is_kept_is_not_read_again(tmp_path: Path) -> None:
    def text(engine: Spoken, **settings: Any) -> str:
        asked, by = Ocr.model_validate(settings), Recognized(engine="tesseract 9", languages={"eng": "ab"})
        recognizer = Recognizer(asked, engine, kept=Kept(folder_of(tmp_path, asked, by)))
        found = str(read_pdf(IMAGE, Extract(), None, recognizer).get("text", ""))
        assert recognizer.pages == bool(found) and recognizer.characters == len(found)
        return found

    assert text(Spoken("")) == text(Spoken()) == ""
    assert text(Spoken("Caf\u00e9 \ud800"), dpi=200) == text(Spoken(), dpi=200) == "Caf\u00e9 ?"
    assert text(Spoken(Failed("timed out")), dpi=100) == ""
    assert text(Spoken("Read at last."), dpi=100) == "Read at last."
    assert len(list(tmp_path.rglob("*.txt"))) == 3 and not list(tmp_path.rglob(".*"))


def test_another_engine_or_setting_keeps_its_own(tmp_path: Path) -> None:
    def folder(engine: str = "tesseract 9", digest: str = "ab", **settings: Any) -> Path:
        return folder_of(tmp_path, Ocr.model_validate(settings), Recognized(engine=engine, languages={"eng": digest}))

    assert folder() == folder(seconds=120) and folder().parent == tmp_path / "recognized"
    assert len({folder(), folder("tesseract 10"), folder(digest="cd"), folder(dpi=200)}) == 4
    assert (
        PICTURE.digest() != Picture(4, 2, PICTURE.pixels, 200).digest() != Picture(2, 4, PICTURE.pixels, 200).digest()
    )


@pytest.mark.slow
def test_real_tesseract_reads_a_scan() -> None:
    if not shutil.which("tesseract"):
        pytest.skip("no tesseract on PATH (Debian: apt-get install tesseract-ocr)")
    scan = scanned(pdf(shown(SENTENCES), shown(SENTENCES[:1])))
    answer, _ = read(scan, TesseractEngine(Ocr()))
    assert answer["text"].split() == " ".join([*SENTENCES, SENTENCES[0]]).split()
    assert read_pdf(scan, Extract())["reason"] == "needs OCR: 2 of 2 pages are images"
