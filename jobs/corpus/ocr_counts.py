"""What became of the PDF pages that were images and went to text recognition (OCR)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.ocr import Ocr

EMPTY = "no text"
"""Reason of a page on which the engine sees none: not a failure, a photograph has none."""


@dataclass(slots=True)
class Recognized:
    """`engine`: its name and version; `languages`: their data's digests. Pages that gave text, their characters, pages
    `reduced` in resolution, those that gave none by reason, and the seconds of all. `folder`:
    where texts are kept for another attempt."""

    engine: str = ""
    languages: dict[str, str] = field(default_factory=dict)
    pages: int = 0
    characters: int = 0
    reduced: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first: str = ""
    seconds: float = 0.0
    folder: Path | None = None

    def add(self, counts: dict[str, Any], place: str) -> None:
        """Add the counts of the file at `place`."""
        self.pages += counts["pages"]
        self.characters += counts["characters"]
        self.reduced += counts["reduced"]
        self.seconds += counts["seconds"]
        for reason, count in counts["failed"].items():
            kind = reason.partition(":")[0]
            self.failed[kind] += count
            if kind != EMPTY:
                self.first = self.first or f"{place} ({reason})"

    def join(self, other: Recognized) -> None:
        """Count what another process has recognized after this."""
        self.pages, self.characters = self.pages + other.pages, self.characters + other.characters
        self.reduced, self.seconds = self.reduced + other.reduced, self.seconds + other.seconds
        self.failed.update(other.failed)
        self.first = self.first or other.first

    @property
    def given(self) -> int:
        """Pages that went to the engine."""
        return self.pages + self.failed.total()

    def check(self, settings: Ocr | None) -> None:
        """Raise ValueError where too many pages failed."""
        failed = self.failed.total() - self.failed[EMPTY]
        if settings and failed and failed / self.given > settings.max_failed_share:
            reason, count = next(one for one in self.failed.most_common() if one[0] != EMPTY)
            raise ValueError(
                f"{failed:,} of {self.given:,} PDF pages cannot be recognized ({failed / self.given:.1%}), above"
                f" data.extract.ocr.max_failed_share {settings.max_failed_share:.1%}; most often: {reason} ({count:,});"
                f" the first is in {self.first}"
            )

    def counts(self) -> dict[str, Any]:
        """Entries of statistics.json."""
        return {
            "engine": self.engine,
            "languages": self.languages,
            "pages": self.pages,
            "characters": self.characters,
            "reduced": self.reduced,
            "failed": dict(self.failed.most_common()),
            "seconds": round(self.seconds, 2),
        }

    def sentence(self) -> str:
        """What was done, for the log and the report."""
        languages = f", {'+'.join(self.languages)}" if self.languages else ""
        failed = "".join(f"; {count:,} gave none: {reason}" for reason, count in self.failed.most_common())
        reduced = f"; {self.reduced:,} were drawn at a lower resolution, for their size" if self.reduced else ""
        return (
            f"{self.pages:,} of {self.given:,} pages that are images were read by OCR ({self.engine}{languages}),"
            f" {self.characters:,} characters in {self.seconds:,.1f} s{failed}{reduced}"
        )
