"""Text to tokens: records are read, bad ones set aside, documents split, tokenized and written as Megatron's index
files.

Nothing is lost: every line read belongs to a document, is blank or is in quarantine, and the job asserts that before it
ends."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from conf.sources import SPLITS
from conf.spec import Spec
from conf.stages.data import DataConfig
from jobs.benchmarks.asked import questions_of, write_quiz_of
from jobs.corpus import cards, shards
from jobs.corpus.collect import Collected, collect
from jobs.corpus.extract import kept
from jobs.corpus.lines import excerpt
from jobs.corpus.merge import Merge
from jobs.corpus.quarantine import Quarantine
from jobs.corpus.raw import CURATED, hold_out
from jobs.corpus.readers import advice_on_field
from jobs.corpus.sources import WORLD, settings_of
from jobs.corpus.splits import Splits, check_splits
from jobs.runtime.entry import Metrics, main

SAMPLE_DOCUMENTS = 2000
"""Documents on which tokenizers are compared."""


def run(spec: Spec) -> None:
    """Inputs: tokenizer (a directory) unless one is trained; curated, a corpus whose held-out text is taken; written,
    what a teacher wrote, where that is the source. Writes the splits, tokenizer/, statistics.json and
    quarantine.jsonl."""
    config, output = settings_of(spec), Path(spec.output)
    threads = str(config.workers or os.cpu_count() or 1)
    # Both engines read this when their thread pool starts, on the first batch. A page of a Parquet file may be as large
    # as its row group; Arrow's own allocator would keep a sixth more of such pages than the system's.
    os.environ |= {
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "true",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    metrics = Metrics(output)
    metrics.rewind(-1)
    rejected = Quarantine(output / "quarantine.jsonl", config.max_rejected_share, advice_on_field)
    with Splits(output) as splits, rejected as quarantine:
        collected = _collected(spec, config, output, splits, quarantine)
        held_out = hold_out(Path(spec.inputs[CURATED]), splits) if CURATED in spec.inputs else None
        metrics.log(1, 3)
        tokenizer_folder = _tokenizer(spec, config, output, splits)
        metrics.log(2, 3)
        tokenized = _tokenize(config, output, tokenizer_folder, splits, quarantine)
        statistics = _counts(collected, splits, quarantine, config, held_out) | tokenized
    sources = (config.source,) if isinstance(config.source, str) else config.source
    cards.copy_cards(sources, output)
    if WORLD in sources:
        write_quiz_of(config, output)
    for folder in (kept.FOLDER, shards.FOLDER):
        shutil.rmtree(output / folder, ignore_errors=True)
    (output / "statistics.json").write_text(json.dumps(statistics, indent=2) + "\n")
    tokens = statistics["splits"]["train"]["tokens"]
    metrics.log(3, 3, documents=statistics["documents"], train_tokens=tokens, quarantined=statistics["quarantined"])
    for note in collected.notes:
        print(note)
    print(
        f"{statistics['documents']} documents, {tokens:,} training tokens, {statistics['quarantined']} records in"
        " quarantine"
    )


def _collected(spec: Spec, config: DataConfig, output: Path, splits: Splits, quarantine: Quarantine) -> Collected:
    """The documents of all sources; of several ranks, what they have made."""
    if config.ranks > 1:
        return collect(config, splits, quarantine, [], lambda notes: Merge(config, output, notes))
    return collect(config, splits, quarantine, questions_of(spec.inputs, config, output))


def _counts(
    collected: Collected,
    splits: Splits,
    quarantine: Quarantine,
    config: DataConfig,
    held_out: dict[str, Any] | None,
) -> dict[str, Any]:
    """What became of every line that was read."""
    count, kept, again = collected.count, sum(splits.lines.values()), collected.deduplicated
    filtered, leaked, documents = collected.filtered, collected.decontaminated, sum(splits.documents.values())
    repeated = collected.repeated_lines + (again.lines if again else 0)
    removed_lines = (filtered.lines if filtered else 0) + (leaked.lines if leaked else 0)
    removed = (filtered.removed if filtered else 0) + (leaked.removed if leaked else 0)
    own, own_lines, shared = (held_out[name] for name in ("own", "own_lines", "shared")) if held_out else (0, 0, 0)
    removed_lines += own_lines
    unread = count.lines - count.blank - kept - quarantine.lines - repeated - removed_lines
    left_out = collected.repeats + removed + (again.documents if again else 0) + own
    unknown = collected.records - (documents - shared) - quarantine.records - left_out
    assert unknown == 0, f"{unknown} of {collected.records} records are neither kept nor left out for a reason"
    if config.max_documents is None:
        assert unread == 0, f"{unread} of {count.lines} lines are neither documents, blank, nor in quarantine"
    return {
        "lines_read": count.lines,
        "blank": count.blank,
        "lines_in_documents": kept,
        "lines_quarantined": quarantine.lines,
        "records": collected.records,
        "documents": documents,
        "quarantined": quarantine.records,
        "reasons": dict(quarantine.reasons.most_common()),
        "repaired": count.repaired,
        "duplicates_across_splits": collected.repeats,
        "filtered": filtered.counts() if filtered else None,
        **({"extracted": count.extracted.counts()} if count.extracted.given else {}),
        **({"decontaminated": leaked.counts()} if leaked else {}),
        "deduplicated": again.counts if again else None,
        **({"held_out": held_out} if held_out else {}),
        **({"planted": collected.planted.counts()} if collected.planted else {}),
        "notes": collected.notes,
    }


def _tokenizer(spec: Spec, config: DataConfig, output: Path, splits: Splits) -> Path:
    """Copy the given tokenizer, or train one on the training split, into tokenizer/."""
    from jobs.huggingface import tokenizer

    tokenizer_folder = output / "tokenizer"
    tokenizer_folder.mkdir(exist_ok=True)
    if "tokenizer" in spec.inputs:
        tokenizer.copy_files(Path(spec.inputs["tokenizer"]), tokenizer_folder)
    else:
        tokenizer.train(splits.texts("train"), config.vocab_size, tokenizer_folder)
    return tokenizer_folder


def _tokenize(
    config: DataConfig, output: Path, tokenizer_folder: Path, splits: Splits, quarantine: Quarantine
) -> dict[str, Any]:
    """Tokenize every split; counts are taken again from the written files. A document whose text becomes the
    end-of-document id would be read as two, and goes to quarantine."""
    from jobs.corpus.encoding import encoder
    from jobs.huggingface import tokenizer
    from jobs.tokens.indexed import IndexedTokens, token_dtype

    tokenizer_info = tokenizer.describe(tokenizer_folder, config.end_of_document)
    dtype, eod = token_dtype(tokenizer_info.vocab_size), tokenizer_info.eod_id
    sample = list(itertools.islice(splits.texts("train"), SAMPLE_DOCUMENTS))
    encode, engine = encoder(tokenizer_folder, config.engine, sample)
    counts = {}
    for split in SPLITS:
        reason = f"its text becomes the end-of-document id {eod} of the tokenizer"
        for record in splits.drop(split, _write_split(output, split, splits, encode, eod, dtype)):
            quarantine.add(replace(record, text=None, reason=reason, excerpt=excerpt(record.text)))
        documents, written = splits.documents[split], IndexedTokens(output / split)
        assert len(written) == documents and len(written.tokens) == int(written.lengths.sum(dtype="int64")), (
            f"{split} was not written completely"
        )
        assert written.times(eod) == documents, f"a document of {split} contains the end-of-document id"
        counts[split] = {
            "documents": documents,
            "tokens": len(written.tokens),
            "bytes": splits.bytes[split],
            "min_length": int(written.lengths.min()) if documents else 0,
            "mean_length": round(float(written.lengths.mean()), 2) if documents else 0.0,
            "max_length": int(written.lengths.max()) if documents else 0,
        }
    quarantine.check(sum(splits.documents.values()))
    check_splits(splits.documents, config, "document")
    tokenizer_entries = {
        "tokenizer_fingerprint": tokenizer_info.fingerprint,
        "vocab_size": tokenizer_info.vocab_size,
        "eod_id": eod,
        "dtype": str(dtype),
        "engine": engine,
    }
    return {"splits": counts, **tokenizer_entries}


def _write_split(output: Path, split: str, splits: Splits, encode: Any, eod: int, dtype: Any) -> set[int]:
    """Encode one split while the next batch is read and the last one written; returns the numbers of the documents that
    were left out because their ids hold the end-of-document id."""
    from jobs.corpus.encoding import with_ends, without_ends
    from jobs.tokens.indexed import IndexedWriter

    left_out, first = set[int](), 0

    def write(ids: Any, lengths: Any) -> None:
        writer.add(*with_ends(ids.astype(dtype), lengths, eod))

    with (
        IndexedWriter(output / split, dtype) as writer,
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(1) as writing,
    ):
        batches = splits.batches(split)
        next_batch = reading.submit(next, batches, None)
        pending = None
        while (batch := next_batch.result()) is not None:
            next_batch = reading.submit(next, batches, None)
            ids, lengths = encode(batch)
            ids, lengths, ended = without_ends(ids, lengths, eod)
            left_out |= {first + number for number in ended.tolist()}
            if pending:
                pending.result()
            pending = writing.submit(write, ids, lengths)
            first += len(batch)
        if pending:
            pending.result()
    return left_out


if __name__ == "__main__":
    main(run)
