"""Prompts and responses to masked tokens: read, bad ones set aside, filtered, split by prompt, rendered by the chat
template, tokenized, and left out where they repeat others.

Nothing is lost: every row read is a record of some split, blank, in quarantine with its reason, or left out and counted
by reason; the job asserts that before it ends."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conf.spec import Spec
from conf.stages.records import GENERATED, RecordsConfig
from jobs.benchmarks.asked import judge_of_conversations
from jobs.corpus.conversations import Conversation, gather
from jobs.corpus.decontaminate import Decontaminated
from jobs.corpus.decontaminate_records import RecordLeaks
from jobs.corpus.deduplicate import Deduplicated, deduplicate
from jobs.corpus.filter_counts import Filtered
from jobs.corpus.filter_records import RecordFilter
from jobs.corpus.messages import Reading
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.record_splits import Prompts, RecordSplits
from jobs.corpus.splits import check_splits
from jobs.curation.leaks import Clearing
from jobs.runtime.entry import Metrics, main
from jobs.tokens.indexed import token_dtype

if TYPE_CHECKING:
    from jobs.huggingface.chat_template import Chat, Encoded
    from jobs.huggingface.tokenizer import Description

BATCH = 256
"""Conversations rendered and tokenized at once."""
MAX_FIELDS = 20
"""Names of fields in the statistics that no shape of a record has."""


def run(spec: Spec) -> None:
    """Inputs: tokenizer (a directory) or data, whose tokenizer is used; generated where it is a source. Writes
    SPLIT.bin, .idx, .mask and .jsonl, chat_template.jinja, statistics.json and quarantine.jsonl."""
    from jobs.huggingface.chat_template import Chat

    config, output = RecordsConfig.model_validate(spec.config), Path(spec.output)
    os.environ |= {"RAYON_NUM_THREADS": str(config.workers or os.cpu_count() or 1), "TOKENIZERS_PARALLELISM": "true"}
    metrics = Metrics(output)
    metrics.rewind(-1)
    tokenizer_folder = (
        Path(spec.inputs["tokenizer"]) if "tokenizer" in spec.inputs else Path(spec.inputs["data"]) / "tokenizer"
    )
    chat = Chat(tokenizer_folder, config.chat_template)
    generated = Path(spec.inputs[GENERATED]) if GENERATED in spec.inputs else None
    reading = Reading(
        prompt_field=config.prompt_field,
        response_field=config.response_field,
        system=config.system,
        encoding=config.encoding,
    )
    conversations = gather(
        config.sources,
        reading,
        setting="records.source",
        world=config.world,
        generated=generated,
        limit=config.max_records,
    )
    judge = judge_of_conversations(config.decontaminate, spec.inputs)
    statistics = _write(config, chat, tokenizer_folder, output, conversations, judge)
    (output / "chat_template.jinja").write_text(chat.template)
    (output / "statistics.json").write_text(json.dumps(statistics, indent=2) + "\n")
    train = statistics["splits"]["train"]
    metrics.log(
        1,
        1,
        records=statistics["records"],
        response_tokens=train["response_tokens"],
        quarantined=statistics["quarantined"],
    )
    _tell(statistics)


def _tell(statistics: dict[str, Any]) -> None:
    train = statistics["splits"]["train"]
    print(
        f"{statistics['records']} records, {train['response_tokens']:,} response tokens to learn,"
        f" {statistics['quarantined']} in quarantine"
    )
    if again := statistics["prompts_of_another_split"]:
        print(f"{again} records are left out, whose prompt is in a held-out split of its source")
    if leaked := statistics.get("decontaminated"):
        print(f"{leaked['removed']} records are left out, which contain benchmark questions")
    for note in statistics.get("notes", ()):
        print(note)
    if unread := statistics["fields_not_read"]:
        print(f"fields not read: {', '.join(f'{name} (in {count} records)' for name, count in unread.items())}")


def _write(
    config: RecordsConfig,
    chat: Chat,
    tokenizer_folder: Path,
    output: Path,
    source: Iterator[Conversation],
    judge: Clearing | None,
) -> dict[str, Any]:
    """Tokenize and write every split; returns the statistics."""
    from jobs.huggingface import tokenizer

    tokenizer_info = tokenizer.describe(tokenizer_folder)
    dtype, prompts, leaks = token_dtype(tokenizer_info.vocab_size), Prompts(config), RecordLeaks(judge, output)
    quarantine = Quarantine(output / "quarantine.jsonl", config.max_rejected_share)
    read, usable = _Read(), _Usable(quarantine)
    record_filter = RecordFilter(config) if config.filter or config.pii else None
    given = record_filter.of(read.of(source)) if record_filter else read.of(source)
    with RecordSplits(output, dtype) as splits, quarantine, leaks:
        for conversation, encoded, text in usable.of(_encoded(given, chat, config.seq_length)):
            split = prompts.split_of(conversation)
            if split and not (split == "train" and leaks.take_out(conversation)):
                splits.add(split, conversation, encoded, text)
    filtered, leaked = record_filter.found if record_filter else None, leaks.found if judge else None
    removed = {
        "filter": filtered.removed if filtered else 0,
        "repeats": usable.repeats,
        "prompts of another split": prompts.again,
        "decontaminate": leaks.found.removed,
    }
    kept = _conserved("everything but deduplicate", read.records - quarantine.records, removed, splits)
    quarantine.check(kept + sum(removed.values()))
    if record_filter:
        record_filter.end(output)
    # After all that records are left out for: of two copies, one that is must not stand in for the other.
    again = deduplicate(config.deduplicate, splits, "records") if config.deduplicate and kept else None
    if again:
        _conserved("deduplicate", kept, {"copies": again.documents}, splits)
    _check_splits(splits.documents, config, quarantine)
    return {
        "read": read.records,
        "records": sum(splits.documents.values()),
        "repeats": usable.repeats,
        "prompts_of_another_split": prompts.again,
        **_curated(filtered, leaked, again),
        **_quarantined(quarantine, usable),
        "splits": {split: _split_statistics(rows) for split, rows in splits.lengths.items()},
        **_tokenizer_entries(tokenizer_info, str(dtype), chat),
        "seq_length": config.seq_length,
    }


def _conserved(block: str, given: int, removed: dict[str, int], splits: RecordSplits) -> int:
    """The records that are left after a block; they and those it removed are all it was given."""
    kept = sum(splits.documents.values())
    assert given == kept + sum(removed.values()), (
        f"{block} was given {given} records, removed {removed} and left {kept}"
    )
    return kept


def _curated(filtered: Filtered | None, leaked: Decontaminated | None, again: Deduplicated | None) -> dict[str, Any]:
    """Entries of the statistics on the blocks that are on."""
    notes = [*(filtered.sentences() if filtered else ()), *([again.sentence] if again else ())]
    return {
        **({"filtered": filtered.counts()} if filtered else {}),
        **({"decontaminated": leaked.counts()} if leaked else {}),
        **({"deduplicated": again.counts} if again else {}),
        **({"notes": notes} if notes else {}),
    }


class _Read:
    """Counts the records that are read."""

    def __init__(self) -> None:
        self.records = 0

    def of(self, source: Iterator[Conversation]) -> Iterator[Conversation]:
        for conversation in source:
            self.records += 1
            yield conversation


class _Usable:
    """The records that can be encoded, each once; others go to `quarantine`. `repeats` counts those that say again
    what one before said, `unread` in how many a field was not read."""

    def __init__(self, quarantine: Quarantine) -> None:
        self.repeats, self.unread = 0, Counter[str]()
        self._quarantine, self._seen = quarantine, set[bytes]()

    def of(self, source: Iterator[tuple[Conversation, Any]]) -> Iterator[tuple[Conversation, Encoded, bytes]]:
        """Each with its tokens and its text as JSON."""
        for conversation, encoded in source:
            if conversation.messages is None:
                self._quarantine.add(conversation)
                continue
            if isinstance(encoded, str):
                self._quarantine.add(_rejected(conversation, encoded))
                continue
            self.unread.update(dict.fromkeys(conversation.unread, 1))  # in their order, the same in every process
            text = orjson.dumps({"messages": conversation.messages})
            digest = hashlib.blake2b(text, digest_size=12).digest()
            if digest in self._seen:
                self.repeats += 1
                continue
            self._seen.add(digest)
            yield conversation, encoded, text


def _quarantined(quarantine: Quarantine, usable: _Usable) -> dict[str, Any]:
    return {
        "quarantined": quarantine.records,
        "reasons": dict(quarantine.reasons.most_common()),
        "fields_not_read": dict(usable.unread.most_common(MAX_FIELDS)),
    }


def _tokenizer_entries(tokenizer_info: Description, dtype: str, chat: Chat) -> dict[str, Any]:
    return {
        "tokenizer_fingerprint": tokenizer_info.fingerprint,
        "vocab_size": tokenizer_info.vocab_size,
        "eod_id": tokenizer_info.eod_id,
        "dtype": dtype,
        "chat_template": chat.origin,
        "end_token": chat.end,
        "end_id": chat.end_id,
    }


def _encoded(source: Iterator[Conversation], chat: Chat, seq_length: int) -> Iterator[tuple[Conversation, Any]]:
    """Each conversation with its tokens, or why it has none."""
    from jobs.huggingface import chat_template

    while batch := list(itertools.islice(source, BATCH)):
        encoded = iter(
            chat.encode([conversation.messages for conversation in batch if conversation.messages is not None])
        )
        for conversation in batch:
            result = None if conversation.messages is None else next(encoded)
            if isinstance(result, chat_template.Encoded) and len(result.ids) > seq_length:
                yield conversation, f"{len(result.ids)} tokens, longer than records.seq_length {seq_length}"
            elif isinstance(result, chat_template.Encoded) and not any(result.mask):
                yield conversation, "no token of its text is a response's"
            else:
                yield conversation, str(result) if isinstance(result, ValueError) else result


def _rejected(conversation: Conversation, reason: str) -> Conversation:
    return Conversation(conversation.file, conversation.line, None, reason, ascii(conversation.messages)[:80])


def _split_statistics(rows: list[tuple[int, int]]) -> dict[str, Any]:
    lengths = [length for length, _ in rows]
    return {
        "documents": len(rows),
        "tokens": sum(lengths),
        "response_tokens": sum(learned for _, learned in rows),
        "min_length": min(lengths, default=0),
        "mean_length": round(sum(lengths) / len(rows), 2) if rows else 0.0,
        "max_length": max(lengths, default=0),
    }


def _check_splits(records: dict[str, int], config: RecordsConfig, quarantine: Quarantine) -> None:
    if not any(records.values()) and (first := quarantine.first):
        raise ValueError(
            f"none of {quarantine.records} records can be used; the first is {first.file}:{first.line}"
            f" ({first.reason}); {quarantine.path} lists them all"
        )
    check_splits(records, config, "record")


if __name__ == "__main__":
    main(run)
