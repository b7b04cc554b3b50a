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


def put(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str, languages: str) -> None:
    """A tesseract that runs these lines of a shell."""
    program = folder / "tesseract"
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {version}; else {languages}; fi\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_version_3_says_all_of_it_as_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    languages = "printf 'List of available languages (2):\\neng\\n\\n tur\\n' >&2"
    put(monkeypatch, tmp_path, "echo 'tesseract 3.05.02' >&2", languages)
    found = checked(["tur"])
    assert (found.version, found.languages, found.folder) == ("3.05.02", ("eng", "tur"), Path())


def test_a_silent_tesseract_has_no_languages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(monkeypatch, tmp_path, "true", "true")
    assert (checked([]).version, checked([]).languages) == ("unknown", ())
    with pytest.raises(ValueError, match=r"languages has script/Han_Vert, but tesseract here has none; .*ocr-han-vert"):
        checked(["script/Han_Vert"])


def test_twenty_of_many_languages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [f"l{number}" for number in range(1, 22)]
    put(monkeypatch, tmp_path, "echo tesseract 5", "printf '" + "\\n".join(["Languages:", *names]) + "'")
    with pytest.raises(ValueError, match=r"here has l1, l2, .*, l19, l20; install"):
        checked(["eng"])
    assert checked(["l21"]).version == "5"
