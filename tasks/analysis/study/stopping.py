"""Which trials of a study stop on the way: decided round by round, from the trials of this round and those before.

Every trial of a round reaches a point before any of them goes on, so that it does not matter which is there first."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from conf.study import Stop

KEEP = 0.5
"""Share that goes on by halving, where a study states none."""


@dataclass(frozen=True)
class Stopped:
    """A trial that was stopped: after which step, its value there, and the training tokens that it took."""

    step: int
    value: float
    tokens: int


class Stopping:
    """The values of all trials at each point so far."""

    def __init__(self, stop: Stop, *, lower: bool) -> None:
        self.stop, self.sign = stop, 1.0 if lower else -1.0
        self._seen: list[list[float]] = [[] for _ in stop.at]

    def behind(self, place: int, values: dict[int, float]) -> set[int]:
        """Which of a round's trials, by number, stop at a point, numbered from 0. A value at the bound goes on."""
        seen = self._seen[place]
        seen += [self.sign * value for value in values.values()]
        if len(seen) < self.stop.least:
            return set()
        bound = statistics.median(seen) if self.stop.rule == "median" else self._kept(seen)
        return {number for number, value in values.items() if self.sign * value > bound}

    def _kept(self, seen: list[float]) -> float:
        """The worst of the best `keep`."""
        return sorted(seen)[math.ceil((self.stop.keep or KEEP) * len(seen)) - 1]


def value_at(artifact: Path, step: int, metric: str) -> float:
    """A validation metric after `step` of a training's artifact; the last one before where patience ended it."""
    lines = (json.loads(line) for line in (artifact / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return float([line["values"][metric] for line in lines if line["step"] <= step and metric in line["values"]][-1])
