"""The documents of each split as files (SPLIT.jsonl), each with the place it came from as long as the job runs, so that
one that turns out unusable late can still be named and taken out."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from conf.sources import SPLITS
from conf.stages.data import DataConfig
from conf.stages.records import RecordsConfig
from jobs.corpus.readers import Document

PLACE = np.dtype([("file", "<i8"), ("line", "<i8"), ("lines", "<i8")])
PACKED = struct.Struct("<qqq")
PLACES = 1 << 16
"""Places read at once."""
BATCH_BYTES = 4 << 20
"""Text read at once: enough to keep all threads busy, little enough to hold in memory."""


class Verdict(Protocol):
    """What becomes of a document: whether it is removed, its text where that changes, and the bytes of what stays."""

    @property
    def removed(self) -> bool: ...
    @property
    def text(self) -> str | None: ...
    @property
    def size(self) -> int: ...


class Splits:
    """Writes documents; `documents`, `bytes` and `lines` are counts by split of what is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()
        self._files: dict[str, int] = {}
        self.documents, self.bytes, self.lines = (dict.fromkeys(SPLITS, 0) for _ in range(3))

    def __enter__(self) -> Splits:
        def stream(name: str) -> IO[bytes]:
            return self._stack.enter_context((self._folder / name).open("wb", buffering=1 << 20))

        self._texts = {split: stream(f"{split}.jsonl") for split in SPLITS}
        self._places = {split: stream(f".{split}.places") for split in SPLITS}
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        for split in SPLITS:
            (self._folder / f".{split}.places").unlink(missing_ok=True)

    def close(self) -> None:
        """Everything added is in the files."""
        self._stack.close()

    def add(self, split: str, record: Document, text: str) -> None:
        """Write one document; `record` says where it is from."""
        self._texts[split].write(orjson.dumps({"text": text}) + b"\n")
        number = self._files.setdefault(record.file, len(self._files))
        self._places[split].write(PACKED.pack(number, record.line, record.lines))
        self.documents[split] += 1
        self.bytes[split] += len(text.encode())
        self.lines[split] += record.lines

    def replace(self, split: str, documents: Iterable[Document]) -> None:
        """Put other documents, of which each has a text, in the place of a split's. Only after `close`."""
        self.documents[split] = self.bytes[split] = self.lines[split] = 0
        with (
            (self._folder / f"{split}.jsonl").open("wb", buffering=1 << 20) as texts,
            (self._folder / f".{split}.places").open("wb", buffering=1 << 20) as places,
        ):
            self._texts[split], self._places[split] = texts, places
            for document in documents:
                assert document.text is not None
                self.add(split, document, document.text)

    def batches(self, split: str) -> Iterator[list[str]]:
        """The documents of a split, a few megabytes at a time."""
        with (self._folder / f"{split}.jsonl").open("rb", buffering=1 << 20) as stream:
            while lines := stream.readlines(BATCH_BYTES):
                yield [orjson.loads(line)["text"] for line in lines]

    def file(self, split: str) -> Path:
        """The documents of a split, one JSON object a line."""
        return self._folder / f"{split}.jsonl"

    def text(self, line: bytes) -> str:
        """The text of a document, by its line of `file`."""
        return str(orjson.loads(line)["text"])

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split, one by one."""
        return itertools.chain.from_iterable(self.batches(split))

    def places(self, split: str) -> Iterator[tuple[str, int, int]]:
        """The file of each document of a split, its first line and the number of its lines. Only after `close`."""
        names = list(self._files)
        with (self._folder / f".{split}.places").open("rb") as stream:
            while len(table := np.fromfile(stream, PLACE, PLACES)):
                for file, line, lines in table.tolist():
                    yield names[file], line, lines

    def rewrite(self, split: str, verdicts: Iterable[Verdict]) -> None:
        """Remove or change the documents of a split by one verdict for each, in order. Only after `close`."""
        path, size, stays = self.file(split), 0, bytearray()
        with path.open("rb") as old, path.with_suffix(".kept").open("wb", buffering=1 << 20) as kept:
            for line, verdict in zip(old, verdicts, strict=True):
                stays.append(not verdict.removed)
                if verdict.removed:
                    continue
                kept.write(line if verdict.text is None else orjson.dumps({"text": verdict.text}) + b"\n")
                size += verdict.size
        path.with_suffix(".kept").replace(path)
        self._keep(split, np.frombuffer(stays, bool))
        self.bytes[split] = size

    def drop(self, split: str, numbers: Collection[int] | NDArray[np.int64]) -> Iterator[Document]:
        """Take documents out by their number in the split, from 0, and give each with its text and place: they are out
        when all were given. Only after `close`."""
        if not len(numbers):
            return
        path, stays, size = self.file(split), np.ones(self.documents[split], bool), 0
        stays[np.fromiter(numbers, np.int64, len(numbers))] = False
        with path.open("rb") as old, path.with_suffix(".kept").open("wb", buffering=1 << 20) as kept:
            for stay, line, (file, first, lines) in zip(stays, old, self.places(split), strict=True):
                if stay:
                    kept.write(line)
                    continue
                text = self.text(line)
                size += len(text.encode())
                yield Document(file, first, text, lines=lines)
        path.with_suffix(".kept").replace(path)
        self._keep(split, stays)
        self.bytes[split] -= size

    def _keep(self, split: str, stays: NDArray[np.bool_]) -> None:
        """The places and counts of the documents that stay [documents]."""
        path, self.lines[split] = self._folder / f".{split}.places", 0
        with path.open("rb") as old, path.with_suffix(".kept").open("wb") as kept:
            for start in range(0, len(stays), PLACES):
                table = np.fromfile(old, PLACE, PLACES)[stays[start : start + PLACES]]
                self.lines[split] += int(table["lines"].sum())
                table.tofile(kept)
        path.with_suffix(".kept").replace(path)
        self.documents[split] = int(stays.sum())


def check_splits(kept: dict[str, int], config: DataConfig | RecordsConfig, noun: str) -> None:
    """Raise ValueError where there is no document or record (`noun`) at all, or none in a split that is asked for."""
    total, setting = sum(kept.values()), config.stage
    if total == 0:
        raise ValueError(f"{setting}.source {config.source} has no {noun}s; check {setting}.source and its fields")
    for split, share in (("validation", config.validation_share), ("test", config.test_share)):
        if share and not kept[split]:
            raise ValueError(
                f"none of {total} {noun}s fell into the {split} split of {share:.0%}; raise {setting}.{split}_share,"
                f" add {noun}s, or set it to 0"
            )
    if not kept["train"]:
        raise ValueError(
            f"none of {total} {noun}s are left for training; lower {setting}.validation_share and {setting}.test_share"
        )
