"""What became of PDF files that an archive has cut and that were fetched again."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

OTHER_HOST = "not a listed host"
"""Reason of a file that was not asked for."""


@dataclass(slots=True)
class Refetched:
    """Files that came whole, with their `bytes` and seconds, and those that did not by reason. `digest` is of all
    addresses and contents in order: two runs with the same one were given the same files. `kept`: all that was added,
    if anybody asks for it."""

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    kept: list[dict[str, Any]] | None = None

    def add(self, fetched: dict[str, Any]) -> None:
        """Add one file."""
        if self.kept is not None:
            self.kept.append(fetched)
        self.seconds += fetched["seconds"]
        if reason := fetched["reason"]:
            self.failed[reason.partition(":")[0]] += 1
            return
        self.files += 1
        self.bytes += fetched["bytes"]
        self.digest = hashlib.sha256(f"{self.digest} {fetched['url']} {fetched['digest']}".encode()).hexdigest()

    @property
    def cut(self) -> int:
        """Cut files with an address."""
        return self.files + self.failed.total()

    def counts(self) -> dict[str, Any]:
        """Entries of statistics.json."""
        return {
            "cut": self.cut,
            "fetched": self.files,
            "bytes": self.bytes,
            "failed": dict(self.failed.most_common()),
            "seconds": round(self.seconds, 2),
            "digest": self.digest,
        }

    def sentence(self) -> str:
        """What was done, for the log and the report."""
        failed = "".join(f"; {count:,} were not: {reason}" for reason, count in self.failed.most_common())
        return (
            f"{self.files:,} of {self.cut:,} cut PDF files of archives were fetched again ({self.bytes:,} bytes in"
            f" {self.seconds:,.1f} s){failed}"
        )
