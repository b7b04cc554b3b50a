"""Text recognition in the data job: in workers that have a time for each page, in statistics.json and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.extraction import Extract
from conf.ocr import Ocr
from jobs.corpus.extract.workers import Task, answered
from jobs.corpus.ocr_counts import Recognized
from tasks.report.sections import text
from tasks.report.sections.filters import sections
from tests.fixtures.data import ALL_TRAIN, conserved, prepare, quarantine, statistics, texts
from tests.fixtures.documents import SENTENCES, pdf, scanned, shown
from tests.fixtures.eyes import Eyes, looking
from tests.fixtures.jobs import refused
from tests.fixtures.programs import put_tesseract


def counted(**counts: Any) -> dict[str, Any]:
    return {"pages": 0, "characters": 0, "reduced": 0, "failed": {}, "seconds": 0.5} | counts


def test_pages_of_all_files_are_added_up() -> None:
    found = Recognized(engine="tesseract 9", languages={"eng": "ab", "deu": "cd"})
    found.add(counted(pages=3, characters=1200, reduced=1), "a.pdf:1")
    found.add(counted(failed={"no text": 1, "tesseract ended with 1: x": 1}), "b.pdf:1")
    found.add(counted(pages=1, characters=34, failed={"tesseract ended with 2: y": 1}), "c.pdf:1")
    assert found.given == 7 and found.first == "b.pdf:1 (tesseract ended with 1: x)"
    assert found.counts() == {
        **{"engine": "tesseract 9", "languages": {"eng": "ab", "deu": "cd"}, "pages": 4, "characters": 1234},
        **{"reduced": 1, "failed": {"tesseract ended with 1": 1, "no text": 1, "tesseract ended with 2": 1}},
        "seconds": 1.5,
    }
    assert found.sentence() == (
        "4 of 7 pages that are images were read by OCR (tesseract 9, eng+deu), 1,234 characters in 1.5 s; 1 gave none:"
        " no text; 1 gave none: tesseract ended with 1; 1 gave none: tesseract ended with 2; 1 were drawn at a lower"
        " resolution, for their size"
    )


def test_too_many_failed_pages_end_the_job() -> None:
    found = Recognized(engine="x")
    found.add(counted(pages=2, failed={"no text": 5, "timed out": 1}), "a.pdf:1")
    found.check(Ocr(max_failed_share=0.125))
    found.check(None)
    with pytest.raises(ValueError, match=r"1 of 8 PDF pages cannot .*12.5%\), above .*12.4%; most often: timed out"):
        found.check(Ocr(max_failed_share=0.124))
    photographs = Recognized(engine="x")
    photographs.add(counted(failed={"no text": 5}), "a.pdf:1")
    photographs.check(Ocr(max_failed_share=0))


@pytest.mark.slow
def test_a_page_has_a_time_beside_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path, sleeps=0.8)
    settings = Extract(seconds=2, ocr=Ocr(seconds=30))
    task = Task(file="a.pdf", line=1, kind="pdf", content=pdf("", "", "", "", image=True))
    ((_, answer),) = answered([task], settings, 1)
    assert answer["ocr"]["pages"] == 4 and answer["ocr"]["seconds"] > 3.2


@pytest.mark.slow
def test_scans_become_documents(monkeypatch: pytest.MonkeyPatch, words: Path, tmp_path: Path) -> None:
    calls = put_tesseract(monkeypatch, tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf(shown(SENTENCES)))
    (folder / "b.pdf").write_bytes(pdf("", "", image=True))
    (folder / "c.pdf").write_bytes(pdf(shown(SENTENCES), image=True)[:-50])
    output = prepare(str(folder), words, tmp_path / "data", workers=2, extract={"ocr": {}})
    assert texts(output)[1] == "The miller ground his corn.\n\nThe miller ground his corn."
    assert conserved(output) and len(quarantine(output)) == 1
    assert len(calls.read_text().splitlines()) == 1  # both pages are the same picture
    counts = statistics(output)["extracted"]
    assert (counts["pdf_pages"], counts["pdf_pages_needing_ocr"], counts["ocr"]["pages"]) == (3, 2, 2)
    assert counts["ocr"]["engine"] == "tesseract 9.8.7" and counts["ocr"]["characters"] == 54
    (section,) = sections(text.read_text({"data": str(output)}))
    assert "2 PDF pages are images: 2 read by tesseract 9.8.7 (54 characters); " in section.notes[0]
    assert any("2 of 2 pages that are images were read by OCR" in note for note in statistics(output)["notes"])


@pytest.mark.slow
def test_a_key_is_in_no_file_of_the_job(
    monkeypatch: pytest.MonkeyPatch, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EYES_KEY", "abc-very-secret")
    (tmp_path / "scan.pdf").write_bytes(scanned(pdf(*(shown([line]) for line in SENTENCES[:3])), 72))
    eyes = Eyes([(200, "One page."), (422, "no abc-very-secret"), (200, "Another page.")])
    with looking(eyes) as address:
        asked = {"ocr": {"endpoint": address, "model": "eyes", "api_key_env": "EYES_KEY", "retries": 0}}
        output = prepare(str(tmp_path / "scan.pdf"), words, tmp_path / "data", extract=asked)
    assert texts(output) == ["One page.\n\nAnother page."] and eyes.keys == ["Bearer abc-very-secret"] * 3
    assert statistics(output)["extracted"]["ocr"]["failed"] == {"status 422": 1}
    said = capfd.readouterr()
    assert "abc-very-secret" not in said.out + said.err
    assert not any(b"very-secret" in file.read_bytes() for file in output.rglob("*") if file.is_file())
    settings = {"source": str(tmp_path / "scan.pdf"), "extract": json.loads(json.dumps(asked))}
    assert not (output / "recognized").exists()
    away = refused("data", settings, {"tokenizer": words}, tmp_path / "away", capfd)
    assert "cannot be reached (ConnectionError); check the address and the server" in away


@pytest.mark.slow
def test_a_job_goes_on_with_the_pages_it_has(words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan.pdf").write_bytes(scanned(pdf(*(shown([line]) for line in SENTENCES[:3])), 72))
    eyes = Eyes([(200, "Page one."), (200, "Page two."), (401, "no"), (200, "Page three.")])
    with looking(eyes) as address:
        asked = {"ocr": {"endpoint": address, "model": "eyes"}}
        settings = {"source": str(tmp_path / "scan.pdf"), "extract": asked, **ALL_TRAIN}
        said = refused("data", settings, {"tokenizer": words}, tmp_path / "data", capfd)
        assert "refuses with status 401" in said
        output = prepare(str(tmp_path / "scan.pdf"), words, tmp_path / "data", extract=asked)
    assert texts(output) == ["Page one.\n\nPage two.\n\nPage three."] and len(eyes.asked) == 4
    assert statistics(output)["extracted"]["ocr"]["pages"] == 3 and not (output / "recognized").exists()


@pytest.mark.slow
def test_a_job_without_tesseract_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, words: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put_tesseract(monkeypatch, tmp_path)
    (tmp_path / "a.pdf").write_bytes(pdf(shown(SENTENCES)))
    settings = {"source": str(tmp_path / "a.pdf"), "extract": {"ocr": {"languages": ["deu"]}}}
    said = refused("data", settings, {"tokenizer": words}, tmp_path / "data", capfd)
    assert "data.extract.ocr.languages has deu, but tesseract here has eng, tur" in said
