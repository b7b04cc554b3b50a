"""Texts of pages that are kept until the job ends: which job finds which."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from conf.extraction import Extract
from conf.ocr import Ocr
from jobs.corpus.extract.kept import Kept, folder_of
from jobs.corpus.extract.ocr import Failed, Picture, Recognizer
from jobs.corpus.extract.pdf import read_pdf
from jobs.corpus.ocr_counts import Recognized
from tests.jobs.extract.test_ocr import IMAGE, PICTURE, Spoken


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


def test_an_attempt_after_an_update_finds_the_folder(tmp_path: Path) -> None:
    """Named after the settings that enter keys, the engine and its languages; texts by the digests of pictures."""
    asked, by = Ocr(dpi=200), Recognized(engine="tesseract 9", languages={"tur": "b", "eng": "a"})
    what = json.dumps([asked.identity(), by.engine, by.languages], sort_keys=True, separators=(",", ":"))
    kept = Kept(folder_of(tmp_path, asked, by))
    assert kept.folder == tmp_path / "recognized" / hashlib.sha256(what.encode()).hexdigest()[:16]
    assert kept.get("abcdef") is None
    kept.put("abcdef", "Text.")
    kept.put("abcdeg", "Other.")
    assert (kept.get("abcdef"), kept.get("abcdeg")) == ("Text.", "Other.")
    assert sorted(path.relative_to(kept.folder) for path in kept.folder.rglob("*.txt")) == [
        Path("ab/cdef.txt"),
        Path("ab/cdeg.txt"),
    ]
