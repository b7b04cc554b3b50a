"""The records of each split as files, tokens (SPLIT.bin, .idx, .mask) and messages (SPLIT.jsonl), and which split a
record belongs to."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from conf.sources import HELD_OUT, SPLITS
from conf.stages.records import RecordsConfig
from jobs.corpus.conversations import Conversation
from jobs.corpus.dialogue import first_prompt, said
from jobs.corpus.readers import Document
from jobs.corpus.sources import split_of
from jobs.tokens.masked import MaskedTokens, MaskedWriter

if TYPE_CHECKING:
    from jobs.huggingface.chat_template import Encoded


class RecordSplits:
    """Writes records; `lengths` are the tokens and response tokens of each that is kept, by split."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self.lengths: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
        self._folder, self._dtype, self._stack = folder, dtype, ExitStack()
        self._files: dict[str, int] = {}
        # The number of its file and the line of each record, one after the other.
        self._places = {split: array("q") for split in SPLITS}

    def __enter__(self) -> RecordSplits:
        enter = self._stack.enter_context
        self._tokens = {split: enter(MaskedWriter(self._folder / split, self._dtype)) for split in SPLITS}
        self._texts = {split: enter(self.file(split).open("wb")) for split in SPLITS}
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @property
    def documents(self) -> dict[str, int]:
        """Records by split."""
        return {split: len(rows) for split, rows in self.lengths.items()}

    def add(self, split: str, record: Conversation, encoded: Encoded, text: bytes) -> None:
        """Write one record, with its tokens and its text as JSON; `record` says where it is from."""
        self._tokens[split].add(encoded.ids, encoded.mask)
        self._texts[split].write(text + b"\n")
        self._places[split].extend((self._files.setdefault(record.file, len(self._files)), record.line))
        self.lengths[split].append((len(encoded.ids), sum(encoded.mask)))

    def file(self, split: str) -> Path:
        """The messages of a split, one JSON object a line."""
        return self._folder / f"{split}.jsonl"

    def text(self, line: bytes) -> str:
        """What is said in a record, by its line of `file`."""
        return said(orjson.loads(line)["messages"])

    def texts(self, split: str) -> Iterator[str]:
        """What is said in each record of a split."""
        with self.file(split).open("rb") as stream:
            yield from map(self.text, stream)

    def drop(self, split: str, out: NDArray[np.int64]) -> list[Document]:
        """Take records out by their numbers in the split, from 0; returned with their texts and places. Only after
        everything is written."""
        numbers = set(out.tolist())
        if not numbers:
            return []
        names, places, dropped = list(self._files), self._places[split], list[Document]()
        path, tokens = self.file(split), MaskedTokens(self._folder / split)
        with (
            path.open("rb") as old,
            path.with_suffix(".kept").open("wb") as kept,
            MaskedWriter(self._folder / f"{split}.kept", self._dtype) as writer,
        ):
            for number, line in enumerate(old):
                if number in numbers:
                    file, first = places[2 * number : 2 * number + 2]
                    dropped.append(Document(names[file], first, self.text(line)))
                    continue
                kept.write(line)
                ids, mask = tokens.record(number)
                writer.add(ids.tolist(), mask.tolist())
        path.with_suffix(".kept").replace(path)
        for suffix in (".bin", ".idx", ".mask"):
            (self._folder / f"{split}.kept{suffix}").replace(self._folder / f"{split}{suffix}")
        stay = [number for number in range(len(self.lengths[split])) if number not in numbers]
        self.lengths[split] = [self.lengths[split][number] for number in stay]
        self._places[split] = array("q", (one for number in stay for one in places[2 * number : 2 * number + 2]))
        return dropped


class Prompts:
    """The split of each record: that of its source if it is held out there, else by its first prompt. No prompt is in
    two of them; `again` counts the records left out for it."""

    def __init__(self, config: RecordsConfig) -> None:
        self.config, self.again = config, 0
        self._held: dict[bytes, str] = {}

    def split_of(self, conversation: Conversation) -> str | None:
        """The split; None where another one has the prompt."""
        assert conversation.messages is not None, "others are in quarantine"
        split = split_of_record(conversation, self.config)
        key = hashlib.blake2b(first_prompt(conversation.messages).encode(), digest_size=12).digest()
        if self._held.get(key, split) != split:
            self.again += 1
            return None
        if conversation.split in HELD_OUT:
            self._held[key] = split
        return split


def split_of_record(conversation: Conversation, config: RecordsConfig) -> str:
    """The split that a record asks for."""
    assert conversation.messages is not None
    if conversation.split in HELD_OUT:
        return str(conversation.split)
    return split_of(first_prompt(conversation.messages), config, conversation.own)
