"""Prompts and responses to masked tokens: read, bad ones set aside, split by prompt, rendered by the chat template,
tokenized.

Nothing is lost: every row read is a record of some split, a repeat, blank, or in quarantine with its reason."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conf.sources import HELD_OUT, SPLITS
from conf.spec import Spec
from conf.stages.records import GENERATED, RecordsConfig
from jobs.benchmarks.asked import judge_of_conversations
from jobs.corpus.conversations import Conversation, gather
from jobs.corpus.decontaminate import FILE, Decontaminated
from jobs.corpus.messages import Message, Reading
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.sources import split_of
from jobs.corpus.splits import check_splits
from jobs.curation.leaks import Clearing, text_of_messages
from jobs.runtime.entry import Metrics, main

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
    print(
        f"{statistics['records']} records, {train['response_tokens']:,} response tokens to learn,"
        f" {statistics['quarantined']} in quarantine"
    )
    if again := statistics["prompts_of_another_split"]:
        print(f"{again} records are left out, whose prompt is in a held-out split of its source")
    if leaked := statistics.get("decontaminated"):
        print(f"{leaked['removed']} records are left out, which contain benchmark questions")
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
    from jobs.tokens.indexed import token_dtype
    from jobs.tokens.masked import MaskedWriter

    tokenizer_info = tokenizer.describe(tokenizer_folder)
    dtype, prompts, leaks = token_dtype(tokenizer_info.vocab_size), _Prompts(config), _Leaks(judge, output)
    quarantine = Quarantine(output / "quarantine.jsonl", config.max_rejected_share)
    usable = _Usable(quarantine)
    # tokens and response tokens of each record
    lengths_by_split: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    with ExitStack() as stack:
        stack.enter_context(quarantine)
        stack.enter_context(leaks)
        tokens = {split: stack.enter_context(MaskedWriter(output / split, dtype)) for split in SPLITS}
        texts = {split: stack.enter_context((output / f"{split}.jsonl").open("wb")) for split in SPLITS}
        for conversation, encoded, text in usable.of(_encoded(source, chat, config.seq_length)):
            assert conversation.messages is not None, "others are in quarantine"
            split = prompts.split_of(conversation, _first_prompt(conversation.messages))
            if split is None or (split == "train" and leaks.take_out(conversation)):
                continue
            tokens[split].add(encoded.ids, encoded.mask)
            texts[split].write(text + b"\n")
            lengths_by_split[split].append((len(encoded.ids), sum(encoded.mask)))
    quarantine.check(sum(map(len, lengths_by_split.values())) + usable.repeats + prompts.again + leaks.found.removed)
    _check_splits({split: len(rows) for split, rows in lengths_by_split.items()}, config, quarantine)
    return {
        "records": sum(map(len, lengths_by_split.values())),
        "repeats": usable.repeats,
        "prompts_of_another_split": prompts.again,
        **({"decontaminated": leaks.found.counts()} if judge else {}),
        "quarantined": quarantine.records,
        "reasons": dict(quarantine.reasons.most_common()),
        "fields_not_read": dict(usable.unread.most_common(MAX_FIELDS)),
        "splits": {split: _split_statistics(rows) for split, rows in lengths_by_split.items()},
        **_tokenizer_entries(tokenizer_info, str(dtype), chat),
        "seq_length": config.seq_length,
    }


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
            self.unread.update(set(conversation.unread))
            text = orjson.dumps({"messages": conversation.messages})
            digest = hashlib.blake2b(text, digest_size=12).digest()
            if digest in self._seen:
                self.repeats += 1
                continue
            self._seen.add(digest)
            yield conversation, encoded, text


class _Leaks:
    """Training records that contain benchmark questions: left out, counted and listed. Without a `judge`, none is."""

    def __init__(self, judge: Clearing | None, output: Path) -> None:
        self.found = Decontaminated(action="drop")
        self._judge, self._stream = judge, (output / FILE).open("wb") if judge else None

    def take_out(self, conversation: Conversation) -> bool:
        """Whether this one is left out."""
        if self._judge is None or self._stream is None:
            return False
        cleared = self._judge(text_of_messages(conversation.messages))
        self.found.add(cleared, (conversation.file, conversation.line, conversation.lines), self._stream)
        return cleared.removed

    def __enter__(self) -> _Leaks:
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream:
            self._stream.close()


class _Prompts:
    """The split of each record: that of its source if it is held out there, else by its first prompt. No prompt is in
    two of them; `again` counts the records left out for it."""

    def __init__(self, config: RecordsConfig) -> None:
        self.config, self.again = config, 0
        self._held: dict[bytes, str] = {}

    def split_of(self, conversation: Conversation, prompt: str) -> str | None:
        """The split; None where another one has the prompt."""
        own = conversation.split if conversation.split in HELD_OUT else None
        split = own or split_of(prompt, self.config, conversation.own)
        key = hashlib.blake2b(prompt.encode(), digest_size=12).digest()
        if self._held.get(key, split) != split:
            self.again += 1
            return None
        if own:
            self._held[key] = own
        return split


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


def _first_prompt(messages: list[Message]) -> str:
    return next(str(message["content"]) for message in messages if message["role"] == "user").strip()


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
