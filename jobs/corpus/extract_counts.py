"""What became of the files and archived pages that text was taken from."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from jobs.corpus.ocr_counts import Recognized
from jobs.corpus.refetch_counts import Refetched


@dataclass(slots=True)
class Extracted:
    """Counts: `files` read, `records` of archives by type and those `skipped` by reason; the files and records that
    were `given` to a parser by format, and what became of them: `documents` by format, or `quarantined` by reason."""

    files: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    given: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    first: str = ""
    pages: int = 0
    ocr_pages: int = 0
    reordered: int = 0
    recognized: Recognized = field(default_factory=Recognized)
    refetched: Refetched = field(default_factory=Refetched)
    undecodable: int = 0

    def refuse(self, reason: str, place: str) -> None:
        """Count one that gave no text; `place` is its file and record."""
        self.quarantined[reason_of(reason)] += 1
        self.first = self.first or f"{place} ({reason})"

    def join(self, other: Extracted) -> None:
        """Count what another process has read after this."""
        for mine, theirs in (
            (self.files, other.files),
            (self.records, other.records),
            (self.skipped, other.skipped),
            (self.documents, other.documents),
            (self.quarantined, other.quarantined),
        ):
            mine.update(theirs)
        self.given, self.pages = self.given + other.given, self.pages + other.pages
        self.ocr_pages, self.reordered = self.ocr_pages + other.ocr_pages, self.reordered + other.reordered
        self.undecodable, self.first = self.undecodable + other.undecodable, self.first or other.first
        self.recognized.join(other.recognized)
        for fetched in other.refetched.kept or ():
            self.refetched.add(fetched)

    def check(self, max_share: float) -> None:
        """Raise ValueError where too many gave no text."""
        refused, total = sum(self.quarantined.values()), self.given
        if total and refused / total > max_share:
            reason, count = self.quarantined.most_common(1)[0]
            raise ValueError(
                f"no text can be taken from {refused:,} of {total:,} files and archived pages ({refused / total:.1%}),"
                f" above data.extract.max_rejected_share {max_share:.1%}; most often: {reason} ({count:,}); the first"
                f" is {self.first}; quarantine.jsonl lists them all"
            )

    def assert_conserved(self) -> None:
        """Every file and record is accounted for. Only where all were read."""
        ended = sum(self.documents.values()) + sum(self.quarantined.values())
        assert self.given == ended, f"{self.given} files and archived pages were given to parsers, {ended} came back"
        single = sum(count for kind, count in self.files.items() if kind != "warc")
        archived = sum(self.records.values()) - sum(self.skipped.values())
        assert self.given == single + archived, f"{single} files and {archived} records, but {self.given} were given"

    def counts(self) -> dict[str, Any]:
        """Entries of statistics.json."""
        return {
            "files": dict(sorted(self.files.items())),
            "archive_records": dict(self.records.most_common()),
            "archive_records_skipped": dict(self.skipped.most_common()),
            "documents": dict(sorted(self.documents.items())),
            "quarantined": dict(self.quarantined.most_common()),
            "pdf_pages": self.pages,
            "pdf_pages_needing_ocr": self.ocr_pages,
            **({"pdf_pages_reordered": self.reordered} if self.reordered else {}),
            **({"ocr": self.recognized.counts()} if self.recognized.engine else {}),
            **({"refetched": self.refetched.counts()} if self.refetched.cut else {}),
            "undecodable": self.undecodable,
        }

    def sentences(self) -> list[str]:
        """What was done, for the log and the report."""
        files = " and ".join(f"{count:,} {kind}" for kind, count in sorted(self.files.items()))
        found = [
            f"text was taken from {sum(self.documents.values()):,} of {self.given:,} files and archived pages"
            f" ({files} files)"
        ]
        if self.records:
            kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self.records.most_common())
            found.append(f"records of the web archives: {kinds}")
        if self.skipped:
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.skipped.most_common())
            found.append(f"records that are no pages with text: {reasons}")
        if self.reordered:
            found.append(f"{self.reordered:,} of {self.pages:,} PDF pages were put in order: drawn across columns")
        if self.recognized.given:
            found.append(self.recognized.sentence())
        elif self.ocr_pages:
            found.append(f"{self.ocr_pages:,} of {self.pages:,} PDF pages are images without text and need OCR")
        if self.refetched.cut:
            found.append(self.refetched.sentence())
        if self.undecodable:
            found.append(f"{self.undecodable:,} pages have bytes that their encoding does not, written as U+FFFD")
        return found


def reason_of(reason: str) -> str:
    """A reason without the numbers and details that follow its colon: what counts are kept by."""
    return re.sub(r"\d+", "N", reason.partition(":")[0])
