"""The text as it was before curation, for a student that is compared with one taught on what curation left.

Both are validated and tested on the same text: the held-out documents of the curated corpus take the place of its
own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from conf.sources import HELD_OUT
from conf.stages.data import Deduplicate
from jobs.corpus.deduplicate import Texts
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits
from jobs.curation.duplicates import Duplicates

CURATED = "curated"
"""The input that is the curated corpus."""


def hold_out(curated: Path, splits: Splits) -> dict[str, Any]:
    """Replace the held-out documents by those of the `curated` corpus. Returns counts: `own`, documents that were held
    out here (`own_lines` of files) and are left out, since the curated text may have more of them taken out; `shared`,
    those that took their place; and `repeated`, training documents that repeat one of them. Only after the splits are
    closed."""
    own = sum(splits.documents[split] for split in HELD_OUT)
    own_lines = sum(splits.lines[split] for split in HELD_OUT)
    for split in HELD_OUT:
        with (curated / f"{split}.jsonl").open("rb") as stream:
            splits.replace(split, (_document(split, number, line) for number, line in enumerate(stream, 1)))
    shared = sum(splits.documents[split] for split in HELD_OUT)
    return {"own": own, "own_lines": own_lines, "shared": shared, "repeated": _repeated(splits)}


def _document(split: str, number: int, line: bytes) -> Document:
    return Document(f"{split} of the curated text", number, orjson.loads(line)["text"], lines=0)


def _repeated(splits: Splits) -> int:
    """Training documents that are the same as a held-out one, or nearly."""
    order = (*HELD_OUT, "train")
    with ExitStack() as stack:
        texts = Texts(splits, stack, order)
        found = Duplicates(texts.of, Deduplicate().min_jaccard, splits.file("train").parent)
        for split in order:
            for text in splits.texts(split):
                found.add(text)
        held = texts.starts["train"]
        return int((found.clusters()[held:] < held).sum())
