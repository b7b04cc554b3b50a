"""Records that cannot be used: a file with their positions and reasons, and a bound on their share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import orjson

from jobs.corpus.extract_counts import reason_of


class Unusable(Protocol):
    """A record with its position in its file and why it cannot be used."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def lines(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def excerpt(self) -> str: ...


class Quarantine:
    """Records that cannot be used, written with their positions and reasons."""

    def __init__(self, path: Path, max_share: float, advice: Callable[[Unusable], str] = lambda record: "") -> None:
        """`advice`: what follows the first record's reason where too many cannot be used."""
        self.path, self.max_share, self.advice = path, max_share, advice
        self.records = self.lines = self.apart = 0
        self.reasons: Counter[str] = Counter()
        self.first: Unusable | None = None

    def __enter__(self) -> Quarantine:
        self._stream = self.path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def add(self, record: Unusable, *, apart: bool = False) -> None:
        """Set one record aside; one that is `apart` has a bound of its own."""
        place = {
            "file": record.file,
            "line": record.line,
            "lines": record.lines,
            "reason": record.reason,
            "excerpt": record.excerpt,
        }
        self._stream.write(orjson.dumps(place) + b"\n")
        self.records += 1
        self.lines += record.lines
        self.reasons[reason_of(record.reason) if apart else re.sub(r"\d+", "N", record.reason)] += 1
        self.apart += apart
        self.first = self.first or (None if apart else record)

    def check(self, num_kept: int) -> None:
        """Raise ValueError where the share of rejected records exceeds the bound; `num_kept` records were kept."""
        rejected = self.records - self.apart
        share = rejected / max(1, rejected + num_kept)
        if share > self.max_share and self.first:
            raise ValueError(
                f"{rejected} of {rejected + num_kept} records ({share:.1%}) cannot be used, above"
                f" max_rejected_share {self.max_share:.1%}; the first is {self.first.file}:{self.first.line}"
                f" ({self.first.reason}{self.advice(self.first)}); {self.path} lists them all"
            )
