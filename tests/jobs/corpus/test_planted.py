"""Which step took what was planted, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.stages.data import World
from jobs.corpus import planted
from jobs.corpus.planted import Tally
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits
from jobs.world.soil import CLEAN, Planted

SOIL = [
    Planted("first"),
    Planted("buy", "spam"),
    Planted("first", "copies", 0),
    Planted("second"),
    Planted("second", "copies", 3),
    Planted("third"),
    Planted("fourth"),
    Planted("fourth", "copies", 6),
]


def test_each_step_takes_what_it_left_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first copy stays in the place of its original, the second one goes itself; a file's lines are not planted."""
    monkeypatch.setattr(planted, "documents", lambda world: iter(SOIL))
    tally = Tally(World())
    with Splits(tmp_path) as splits:
        for number, one in enumerate(SOIL, 1):
            splits.add("test" if number == 6 else "train", Document("world", number, one.text), one.text)
        splits.add("train", Document("a.txt", 2, "other"), "other")
        splits.close()
        tally.after("read", splits)
        list(splits.drop("train", {1}))  # spam
        tally.after("filter", splits)
        list(splits.drop("train", {0, 3, 4, 5}))  # the first original, the second copy, and both of the last
        list(splits.drop("test", {0}))
        tally.after("deduplicate", splits)
    assert tally.counts() == {
        CLEAN: {"planted": 4, "taken": {"deduplicate": 2}, "left": 2},
        "copies": {"planted": 3, "taken": {"deduplicate": 3}, "left": 0},
        "spam": {"planted": 1, "taken": {"filter": 1}, "left": 0},
    }
