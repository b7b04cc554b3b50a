"""Texts of recognized pages, kept in a folder until the job ends: the next attempt at a job that was killed need not
recognize them again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import orjson

from conf.files import write_whole
from conf.ocr import Ocr
from jobs.corpus.ocr_counts import Recognized

FOLDER = "recognized"
"""In the job's output; removed when it ends well."""


def folder_of(output: Path, settings: Ocr, by: Recognized) -> Path:
    """The folder for these settings and this engine: another attempt may have another tesseract."""
    what = orjson.dumps([settings.identity(), by.engine, by.languages], option=orjson.OPT_SORT_KEYS)
    return output / FOLDER / hashlib.sha256(what).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Kept:
    """Texts by the digests of their pictures."""

    folder: Path

    def get(self, key: str) -> str | None:
        """The text, None where it is not kept."""
        try:
            return self._path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def put(self, key: str, text: str) -> None:
        """Keep a text; it is there as a whole or not at all."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.txt"
