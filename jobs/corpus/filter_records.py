"""Leaves out records that break a rule and marks personal data in others, before tokens are made of them; writes
samples of what it did to filtered.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from conf.sources import SPLITS
from conf.stages.records import RecordsConfig
from jobs.corpus.conversations import Conversation
from jobs.corpus.dialogue import DialogueJudge
from jobs.corpus.filter_counts import Filtered
from jobs.corpus.record_splits import split_of_record


class RecordFilter:
    """Filters the records of all splits; `found` counts what it did. Rows that are no conversation pass: they go to
    quarantine."""

    def __init__(self, config: RecordsConfig) -> None:
        self.found = Filtered(config.filter, config.pii, stage="records", noun="records")
        self._config, self._judge = config, DialogueJudge(config.filter, config.pii)
        self._before, self._after = (dict.fromkeys(SPLITS, 0) for _ in range(2))

    def of(self, source: Iterator[Conversation]) -> Iterator[Conversation]:
        """The records that stay, with marks."""
        for conversation in source:
            if conversation.messages is None:
                yield conversation
                continue
            judged, messages = self._judge(conversation.messages)
            split = split_of_record(replace(conversation, messages=messages), self._config)
            self.found.add(judged, split, (conversation.file, conversation.line, conversation.lines))
            self._before[split] += 1
            if not judged.removed:
                self._after[split] += 1
                yield replace(conversation, messages=messages)

    def end(self, folder: Path) -> None:
        """After the last record. Raises ValueError where a split loses all it had."""
        before, after = sum(self._before.values()), sum(self._after.values())
        removed = self.found.removed
        assert before == after + removed, f"filter was given {before} records, removed {removed} and left {after}"
        self.found.check(self._before, self._after)
        with (folder / "filtered.jsonl").open("wb") as stream:
            stream.writelines(orjson.dumps(row) + b"\n" for row in self.found.samples)
