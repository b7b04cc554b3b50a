"""Held-out documents of the curated corpus take the place of the raw text's own."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.corpus.raw import hold_out
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits

WORDS = [f"word{number}" for number in range(200)]


def text(start: int) -> str:
    return " ".join(WORDS[start : start + 60])


def test_held_out_text_is_replaced_and_its_repeats_are_counted(tmp_path: Path) -> None:
    curated = tmp_path / "curated"
    curated.mkdir()
    for split, texts in (("validation", [text(0)]), ("test", [text(60), text(120)])):
        (curated / f"{split}.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    with Splits(tmp_path) as splits:
        train = ["short", text(0).upper(), "new " + text(1), text(60), text(30), text(30)]
        for split, texts in (("train", train), ("validation", ["a", "b"]), ("test", ["c"])):
            for number, one in enumerate(texts, 1):
                splits.add(split, Document("raw.txt", number, one, lines=3), one)
        splits.close()
        assert hold_out(curated, splits) == {"own": 3, "own_lines": 9, "shared": 3, "repeated": 3}
        assert list(splits.places("test")) == [("test of the curated text", n, 0) for n in (1, 2)]
        assert list(splits.texts("validation")) == [text(0)] and list(splits.texts("train")) == train
