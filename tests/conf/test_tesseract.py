"""What tesseract says it is on this machine, and what is told where it is missing or lacks a language."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conf.tesseract import checked
from tests.fixtures.programs import put_tesseract


def test_tesseract_says_its_version_and_languages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path)
    found = checked(["tur", "eng"])
    assert (found.version, found.languages, found.folder) == ("9.8.7", ("eng", "tur"), tmp_path)
    assert found.program == str(tmp_path / "tesseract")
    assert found.digests(["eng", "tur"]) == {"eng": hashlib.sha256(b"english").hexdigest()[:16], "tur": "unknown"}


def test_a_missing_language_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=r"languages has chi_sim, but tesseract here has eng, tur; .*ocr-chi-sim\)"):
        checked(["eng", "chi_sim"])


def test_a_missing_tesseract_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"asks for tesseract, which is not on PATH here; install it"):
        checked(["eng"])


def test_a_tesseract_that_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put_tesseract(monkeypatch, tmp_path)
    (tmp_path / "tesseract").write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(ValueError, match=r"tesseract --version fails \(CalledProcessError\)"):
        checked(["eng"])
