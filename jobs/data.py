"""Text to tokens: records are read, bad ones set aside, documents split, tokenized and written as Megatron's index
files.

Nothing is lost: every line read belongs to a document, is blank or is in quarantine, and the job asserts that before it
ends."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from conf.spec import Spec
from conf.stages.data import DataConfig
from jobs.corpus import cards
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.readers import Count, Document
from jobs.corpus.sources import SPLITS, WORLD, records, split_of
from jobs.runtime.entry import Metrics, main

BATCH_BYTES = 4 << 20
"""Text tokenized at once: enough to keep all threads busy, little enough to hold in memory."""

SAMPLE_DOCUMENTS = 2000
"""Documents on which tokenizers are compared."""


def run(spec: Spec) -> None:
    """Inputs: tokenizer (a directory) unless one is trained. Writes the splits, tokenizer/, statistics.json and
    quarantine.jsonl."""
    config, output = DataConfig.model_validate(spec.config), Path(spec.output)
    threads = str(config.workers or os.cpu_count() or 1)
    # Both engines read this when their thread pool starts, on the first batch.
    os.environ |= {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"}
    metrics = Metrics(output)
    metrics.rewind(-1)
    tally = _collect(config, output)
    metrics.log(1, 3)
    tokenizer_folder = _tokenizer(spec, config, output)
    metrics.log(2, 3)
    statistics = tally | _tokenize(config, output, tokenizer_folder, tally.pop("bytes"))
    sources = (config.source,) if isinstance(config.source, str) else config.source
    cards.copy_cards(sources, output)
    if WORLD in sources:
        from jobs.world.world import write_quiz

        write_quiz(config.world, output / "quiz")
    (output / "statistics.json").write_text(json.dumps(statistics, indent=2) + "\n")
    tokens = statistics["splits"]["train"]["tokens"]
    metrics.log(3, 3, documents=statistics["documents"], train_tokens=tokens, quarantined=statistics["quarantined"])
    print(
        f"{statistics['documents']} documents, {tokens:,} training tokens, {statistics['quarantined']} records in"
        " quarantine"
    )


def _collect(config: DataConfig, output: Path) -> dict[str, Any]:
    """Write the documents of each split and the quarantine; returns the counts."""
    count, quarantine = Count(), Quarantine(output / "quarantine.jsonl", config.max_rejected_share)
    num_repaired = 0
    documents, num_bytes = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
    lines_kept = duplicates = duplicate_lines = 0
    seen_digests: set[bytes] = set()
    with ExitStack() as stack:
        streams = {
            split: stack.enter_context((output / f"{split}.jsonl").open("wb", buffering=1 << 20)) for split in SPLITS
        }
        stack.enter_context(quarantine)
        for split, record in _limited(records(config, count), config.max_documents):
            text = record.text
            if text is None:
                quarantine.add(record)
                continue
            if config.repair and (repaired_text := _repaired(text)) != text:
                text, num_repaired = repaired_text, num_repaired + 1
            if split is not None and _seen_before(text, split, seen_digests):
                duplicates, duplicate_lines = duplicates + 1, duplicate_lines + record.lines
                continue
            chosen = split or split_of(text, config)
            streams[chosen].write(orjson.dumps({"text": text}) + b"\n")
            documents[chosen] += 1
            num_bytes[chosen] += len(text.encode())
            lines_kept += record.lines
        quarantine.check(sum(documents.values()))
    _check_splits(documents, config)
    unread = count.lines - count.blank - lines_kept - quarantine.lines - duplicate_lines
    if config.max_documents is None:
        assert unread == 0, f"{unread} of {count.lines} lines are neither documents, blank, nor in quarantine"
    return {
        "lines_read": count.lines,
        "blank": count.blank,
        "lines_in_documents": lines_kept,
        "lines_quarantined": quarantine.lines,
        "bytes": num_bytes,
        "documents": sum(documents.values()),
        "quarantined": quarantine.records,
        "repaired": num_repaired,
        "duplicates_across_splits": duplicates,
    }


def _limited(
    records_iterator: Iterator[tuple[str | None, Document]], limit: int | None
) -> Iterator[tuple[str | None, Document]]:
    return records_iterator if limit is None else itertools.islice(records_iterator, limit)


def _repaired(text: str) -> str:
    """The text with wrongly decoded characters ("donâ€™t") fixed; nothing else changes."""
    import ftfy

    return ftfy.fix_encoding(text)


def _seen_before(text: str, split: str, seen_digests: set[bytes]) -> bool:
    """Whether a dataset's own later split repeats a document of an earlier one; repeats within a split are kept."""
    digest = hashlib.blake2b(text.encode(), digest_size=12).digest()
    entry = split.encode() + digest
    if any(other.encode() + digest in seen_digests for other in SPLITS if other != split):
        return True
    seen_digests.add(entry)
    return False


def _check_splits(documents: dict[str, int], config: DataConfig) -> None:
    total = sum(documents.values())
    if total == 0:
        raise ValueError(f"the corpus {config.source} has no documents; check data.source and data.text_field")
    for split, share in (("validation", config.validation_share), ("test", config.test_share)):
        if share and not documents[split]:
            raise ValueError(
                f"none of {total} documents fell into the {split} split of {share:.0%}; raise data.{split}_share, add"
                " documents, or set it to 0 (a dataset with its own splits may lack this one)"
            )
    if not documents["train"]:
        raise ValueError(
            f"none of {total} documents are left for training; lower data.validation_share and data.test_share"
        )


def _tokenizer(spec: Spec, config: DataConfig, output: Path) -> Path:
    """Copy the given tokenizer, or train one on the training split, into tokenizer/."""
    from jobs.huggingface import tokenizer

    tokenizer_folder = output / "tokenizer"
    tokenizer_folder.mkdir(exist_ok=True)
    if "tokenizer" in spec.inputs:
        tokenizer.copy_files(Path(spec.inputs["tokenizer"]), tokenizer_folder)
    else:
        tokenizer.train(
            (text for batch in _batches(output / "train.jsonl") for text in batch), config.vocab_size, tokenizer_folder
        )
    return tokenizer_folder


def _tokenize(config: DataConfig, output: Path, tokenizer_folder: Path, num_bytes: dict[str, int]) -> dict[str, Any]:
    """Tokenize every split; counts are taken again from the written files."""
    from jobs.corpus.encoding import encoder
    from jobs.huggingface import tokenizer
    from jobs.tokens.indexed import IndexedTokens, token_dtype

    tokenizer_info = tokenizer.describe(tokenizer_folder, config.end_of_document)
    dtype, eod = token_dtype(tokenizer_info.vocab_size), tokenizer_info.eod_id
    sample = list(
        itertools.islice((text for batch in _batches(output / "train.jsonl") for text in batch), SAMPLE_DOCUMENTS)
    )
    encode, engine = encoder(tokenizer_folder, config.engine, sample)
    splits = {}
    for split in SPLITS:
        documents = _write_split(output, split, encode, eod, dtype)
        written = IndexedTokens(output / split)
        assert len(written) == documents and len(written.tokens) == int(written.lengths.sum(dtype="int64")), (
            f"{split} was not written completely"
        )
        assert documents == 0 or int((written.tokens == eod).sum()) == documents, (
            f"a document of {split} contains the end-of-document id"
        )
        splits[split] = {
            "documents": documents,
            "tokens": len(written.tokens),
            "bytes": num_bytes[split],
            "min_length": int(written.lengths.min()) if documents else 0,
            "mean_length": round(float(written.lengths.mean()), 2) if documents else 0.0,
            "max_length": int(written.lengths.max()) if documents else 0,
        }
    tokenizer_entries = {
        "tokenizer_fingerprint": tokenizer_info.fingerprint,
        "vocab_size": tokenizer_info.vocab_size,
        "eod_id": eod,
        "dtype": str(dtype),
        "engine": engine,
    }
    return {"splits": splits, **tokenizer_entries}


def _write_split(output: Path, split: str, encode: Any, eod: int, dtype: Any) -> int:
    """Encode one split while the next batch is read and the last one written; returns its number of documents."""
    from jobs.corpus.encoding import with_ends
    from jobs.tokens.indexed import IndexedWriter

    documents = 0

    def write(ids: Any, lengths: Any) -> None:
        writer.add(*with_ends(ids.astype(dtype), lengths, eod))

    with (
        IndexedWriter(output / split, dtype) as writer,
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as writing,
    ):
        batches = _batches(output / f"{split}.jsonl")
        next_batch = reading.submit(next, batches, None)
        pending = None
        while (batch := next_batch.result()) is not None:
            next_batch = reading.submit(next, batches, None)
            encoded = encode(batch)
            if pending:
                pending.result()
            pending = writing.submit(write, *encoded)
            documents += len(batch)
        if pending:
            pending.result()
    return documents


def _batches(path: Path) -> Iterator[list[str]]:
    """The documents of a split, a few megabytes at a time."""
    with path.open("rb", buffering=1 << 20) as stream:
        while lines := stream.readlines(BATCH_BYTES):
            yield [orjson.loads(line)["text"] for line in lines]


if __name__ == "__main__":
    main(run)
