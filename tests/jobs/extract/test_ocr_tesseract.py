"""Pages read by tesseract: how it is called, bounded and blamed. A small program stands in for it; one test asks the
real one."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from conf.ocr import Ocr
from jobs.corpus.extract.ocr import Failed, Unavailable
from jobs.corpus.extract.ocr_tesseract import TesseractEngine
from jobs.corpus.extract.pdf import read_pdf
from tests.fixtures.documents import SENTENCES, pdf, scanned, shown
from tests.fixtures.programs import put_tesseract
from tests.jobs.extract.test_ocr import PICTURE, read


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


def test_a_page_without_time_is_hardly_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def run(command: list[str], timeout: float, **_: Any) -> None:
        given.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    for seconds in (-5, 7):
        with pytest.raises(Failed, match="timed out"):
            TesseractEngine(Ocr()).read(PICTURE, time.monotonic() + seconds)
    assert 0 < given[0] < 0.1 and 6 < given[1] <= 7


def test_tesseract_that_is_gone_ends_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="cannot start tesseract"):
        TesseractEngine(Ocr()).read(PICTURE, time.monotonic() + 20)


@pytest.mark.slow
def test_real_tesseract_reads_a_scan() -> None:
    if not shutil.which("tesseract"):
        pytest.skip("no tesseract on PATH (Debian: apt-get install tesseract-ocr)")
    scan = scanned(pdf(shown(SENTENCES), shown(SENTENCES[:1])))
    answer, _ = read(scan, TesseractEngine(Ocr()))
    assert answer["text"].split() == " ".join([*SENTENCES, SENTENCES[0]]).split()
    assert read_pdf(scan, Extract())["reason"] == "needs OCR: 2 of 2 pages are images"
