"""Prompts and responses to masked tokens: read, bad ones set aside, split by prompt, rendered by the chat template,
tokenized.

Nothing is lost on the way: every row read is a record of some split, a repeat, blank, or in quarantine with its reason.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conf.spec import Spec
from conf.stages.records import GENERATED, RecordsConfig
from jobs.corpus.conversations import Conversation, Reading, gather
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.sources import SPLITS, split_of
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    from jobs.huggingface.chat_template import Chat

BATCH = 256
"""Conversations rendered and tokenized at once."""


def run(spec: Spec) -> None:
    """Inputs: tokenizer (a directory) or data, whose tokenizer is taken; generated where the source is. Writes
    SPLIT.bin, .idx, .mask and .jsonl, chat_template.jinja, statistics.json and quarantine.jsonl."""
    from jobs.huggingface.chat_template import Chat

    config, output = RecordsConfig.model_validate(spec.config), Path(spec.output)
    os.environ |= {"RAYON_NUM_THREADS": str(config.workers or os.cpu_count() or 1), "TOKENIZERS_PARALLELISM": "true"}
    metrics = Metrics(output)
    metrics.rewind(-1)
    words = Path(spec.inputs["tokenizer"]) if "tokenizer" in spec.inputs else Path(spec.inputs["data"]) / "tokenizer"
    chat = Chat(words, config.chat_template)
    generated = Path(spec.inputs[GENERATED]) if GENERATED in spec.inputs else None
    how = Reading(prompt_field=config.prompt_field, response_field=config.response_field, system=config.system)
    found = gather(config.sources, how, setting="records.source", world=config.world, generated=generated)
    statistics = _write(config, chat, words, output, itertools.islice(found, config.max_records))
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


def _write(
    config: RecordsConfig, chat: Chat, words: Path, output: Path, source: Iterator[Conversation]
) -> dict[str, Any]:
    """Tokenize and write every split; return the statistics."""
    from jobs.huggingface import tokenizer
    from jobs.tokens.indexed import token_dtype
    from jobs.tokens.masked import MaskedWriter

    about = tokenizer.describe(words)
    dtype, seen, repeats = token_dtype(about.vocab_size), set[bytes](), 0
    quarantine = Quarantine(output / "quarantine.jsonl", config.max_rejected_share)
    kept: dict[str, list[tuple[int, int]]] = {
        split: [] for split in SPLITS
    }  # tokens and response tokens of each record
    with ExitStack() as stack:
        stack.enter_context(quarantine)
        tokens = {split: stack.enter_context(MaskedWriter(output / split, dtype)) for split in SPLITS}
        texts = {split: stack.enter_context((output / f"{split}.jsonl").open("wb")) for split in SPLITS}
        for found, encoded in _encoded(source, chat):
            if found.messages is None or isinstance(encoded, str):
                quarantine.add(found if found.messages is None else _refused(found, str(encoded)))
                continue
            assert encoded is not None, "a conversation is encoded or refused"
            if len(encoded.ids) > config.seq_length:
                quarantine.add(
                    _refused(found, f"{len(encoded.ids)} tokens, longer than records.seq_length {config.seq_length}")
                )
                continue
            text = orjson.dumps({"messages": found.messages})
            digest = hashlib.blake2b(text, digest_size=12).digest()
            if digest in seen:
                repeats += 1
                continue
            seen.add(digest)
            split = split_of(
                next(message["content"] for message in found.messages if message["role"] == "user").strip(), config
            )
            tokens[split].add(encoded.ids, encoded.mask)
            texts[split].write(text + b"\n")
            kept[split].append((len(encoded.ids), sum(encoded.mask)))
    quarantine.check(sum(map(len, kept.values())) + repeats)
    _check_splits({split: len(rows) for split, rows in kept.items()}, config)
    return {
        "records": sum(map(len, kept.values())),
        "repeats": repeats,
        "quarantined": quarantine.records,
        "reasons": dict(quarantine.reasons.most_common()),
        "splits": {split: _numbers(rows) for split, rows in kept.items()},
        "tokenizer_fingerprint": about.fingerprint,
        "vocab_size": about.vocab_size,
        "eod_id": about.eod_id,
        "dtype": str(dtype),
        "chat_template": chat.origin,
        "end_token": chat.end,
        "end_id": chat.end_id,
        "seq_length": config.seq_length,
    }


def _encoded(source: Iterator[Conversation], chat: Chat) -> Iterator[tuple[Conversation, Any]]:
    """Each conversation with its tokens, or the reason it has none."""
    while batch := list(itertools.islice(source, BATCH)):
        encoded = iter(chat.encode([found.messages for found in batch if found.messages is not None]))
        for found in batch:
            result = None if found.messages is None else next(encoded)
            yield found, str(result) if isinstance(result, ValueError) else result


def _refused(found: Conversation, reason: str) -> Conversation:
    return Conversation(found.file, found.line, None, reason, ascii(found.messages)[:80])


def _numbers(rows: list[tuple[int, int]]) -> dict[str, Any]:
    lengths = [length for length, _ in rows]
    return {
        "documents": len(rows),
        "tokens": sum(lengths),
        "response_tokens": sum(learned for _, learned in rows),
        "min_length": min(lengths, default=0),
        "mean_length": round(sum(lengths) / len(rows), 2) if rows else 0.0,
        "max_length": max(lengths, default=0),
    }


def _check_splits(records: dict[str, int], config: RecordsConfig) -> None:
    total = sum(records.values())
    if total == 0:
        raise ValueError(f"records.source {config.source} has no records; check the path and the fields")
    for split, share in (("validation", config.validation_share), ("test", config.test_share)):
        if share and not records[split]:
            raise ValueError(
                f"none of {total} records fell into the {split} split of {share:.0%}; raise records.{split}_share or"
                " add records"
            )
    if not records["train"]:
        raise ValueError(
            f"none of {total} records are left for training; lower records.validation_share and records.test_share"
        )


if __name__ == "__main__":
    main(run)
