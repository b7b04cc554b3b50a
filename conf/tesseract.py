"""What tesseract is on this machine: its version and its languages. Asks the program; standard library only."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "tesseract"
ANSWERS_IN = 60.0
"""Seconds in which it says its version."""
SHOWN = 20
"""Languages that a message names."""


@dataclass(frozen=True, kw_only=True)
class Tesseract:
    """`program`: its path; `folder`: where the data of its `languages` lie, as it says."""

    program: str
    version: str
    folder: Path
    languages: tuple[str, ...]

    def digests(self, languages: Sequence[str]) -> dict[str, str]:
        """The first 16 digits of the SHA-256 of each language's data; "unknown" where the file is not there."""
        files = {name: self.folder / f"{name}.traineddata" for name in languages}
        return {
            name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else "unknown"
            for name, file in files.items()
        }


def checked(languages: Sequence[str]) -> Tesseract:
    """Tesseract with these languages. Raises ValueError where it is missing, does not run or lacks a language."""
    program = shutil.which(PROGRAM)
    if not program:
        raise ValueError(
            "data.extract.ocr asks for tesseract, which is not on PATH here; install it (Debian: apt-get install"
            " tesseract-ocr), or set data.extract.ocr.endpoint and model"
        )
    version = _said(program, "--version").split()
    listed = _said(program, "--list-langs")
    header, *names = listed.splitlines()
    folder = re.search(r'"(.+)"', header)
    found = Tesseract(
        program=program,
        version=version[1] if len(version) > 1 else "unknown",
        folder=Path(folder[1] if folder else ""),
        languages=tuple(name.strip() for name in names if name.strip()),
    )
    for language in languages:
        if language not in found.languages:
            have = ", ".join(found.languages[:SHOWN]) or "none"
            raise ValueError(
                f"data.extract.ocr.languages has {language}, but tesseract here has {have}; install it (Debian:"
                f" apt-get install tesseract-ocr-{language.rpartition('/')[2].lower().replace('_', '-')}) or remove it"
            )
    return found


def _said(program: str, option: str) -> str:
    try:
        ran = subprocess.run(
            [program, option], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWERS_IN, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ValueError(
            f"data.extract.ocr asks for tesseract, but {program} {option} fails ({type(error).__name__}); see what it"
            " says in a terminal"
        ) from error
    # Version 3 wrote both to its standard error.
    return ran.stdout.strip() or ran.stderr.strip() or "nothing"
