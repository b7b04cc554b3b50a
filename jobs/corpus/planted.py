"""What became of the dirt that was planted among the documents of the invented world."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conf.sources import SPLITS
from conf.stages.data import Soil, World
from jobs.corpus.sources import WORLD
from jobs.corpus.splits import Splits
from jobs.world.soil import CLEAN, documents


class Tally:
    """Counts by kind which documents each step took. A copy counts as found by the step that took it or its original:
    which of the two stays is decided by their order and splits."""

    def __init__(self, world: World) -> None:
        planted = list(documents(world))
        self._kinds = {number: one.kind for number, one in enumerate(planted, 1)}
        self._originals = {
            number: one.original + 1 for number, one in enumerate(planted, 1) if one.original is not None
        }
        self._step: dict[int, str] = {}

    def after(self, step: str, splits: Splits) -> None:
        """What is in no split any more was taken by this step. Only after the splits are closed."""
        left = {line for split in SPLITS for file, line, _ in splits.places(split) if file == WORLD}
        self._step |= dict.fromkeys(self._kinds.keys() - self._step.keys() - left, step)

    def counts(self) -> dict[str, Any]:
        """By kind: how many there were, how many each step took, and how many are left."""
        step = dict(self._step)
        for copy, original in self._originals.items():
            if copy not in step and original in step:
                step[copy] = step.pop(original)
        taken = {kind: Counter[str]() for kind in (CLEAN, *Soil.model_fields)}
        there = Counter(self._kinds.values())
        for number, name in step.items():
            taken[self._kinds[number]][name] += 1
        return {
            kind: {"planted": there[kind], "taken": dict(steps), "left": there[kind] - steps.total()}
            for kind, steps in taken.items()
            if there[kind]
        }
