"""Times the way from JSON lines to Megatron's token files: our data job against Megatron's tool, datasets.map and
datatrove.

`python -m tests.bench.tokenization` writes tests/bench/results/tokenization.{json,md}. Every way is a process of its
own, timed from start to end with its imports, and its token files must be ours to the byte. DATATROVE names the Python
of an environment with datatrove. `--large` compares ours with Megatron's only, on ten times the text, where the start
of a process counts for less, and writes tokenization-large.{json,md}. Not a test: it asserts nothing about time."""

from __future__ import annotations

import gzip
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.doctor import processor
from jobs.huggingface import tokenizer
from jobs.tokens.indexed import token_dtype
from tests.fixtures.jobs import write_spec
from tests.fixtures.tokenizer import tokenizer_directory

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "data"
DATATROVE = os.environ.get("DATATROVE", "/tmp/dt-venv/bin/python")
CORPUS_BYTES = 50_000_000
SAMPLE = 4
"""Megatron's tool gets one document in this many; its working seconds, not its start, are scaled by tokens."""

QUICK_SECONDS, REPEATS = 15, 3
"""A way that ends sooner is run this often; the median counts."""

OURS, RAW = "imbik, {}", "tokenizers alone"
WAYS = [(OURS.format("gigatoken"), 1), (OURS.format("gigatoken"), 2), (OURS.format("tokenizers"), 1), (RAW, 1)]
WAYS += [
    (OURS.format("tokenizers"), 2),
    (RAW, 2),
    *((way, workers) for way in ("megatron", "megatron, one call", "datasets.map", "datatrove") for workers in (1, 2)),
]


def main() -> None:
    """Measure, compare and write the results."""
    large = "--large" in sys.argv[1:]
    ways = [way for way in WAYS if not large or way[0] in (OURS.format("gigatoken"), "megatron")]
    with tempfile.TemporaryDirectory() as scratch:
        corpus = make_corpus(Path(scratch), CORPUS_BYTES * (10 if large else 1), SAMPLE * (10 if large else 1))
        rows = [row for name in ("llama3", "gpt2") for row in compare(name, ways, corpus, Path(scratch))]
    peers = ("tokenizers", "gigatoken", "megatron-core", "transformers", "datasets")
    versions = {name: version(name) for name in peers} | {
        "datatrove": _datatrove_version(),
        "python": platform.python_version(),
    }
    device = f"{processor.kind()}, {os.cpu_count()} cores"
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "versions": versions,
        "corpus": corpus["about"],
        "rows": rows,
    }
    record["options"] = " --large" if large else ""
    name = "tokenization-large" if large else "tokenization"
    (HERE / "results" / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    (HERE / "results" / f"{name}.md").write_text(table(record))
    print(table(record))


def make_corpus(folder: Path, wanted: int, sampled: int) -> dict[str, Any]:
    """The real texts as JSON lines, shuffled, repeated to `wanted` bytes: whole, in halves (datatrove's workers take
    files), a sample."""
    texts, unique = _texts(), 0
    lines: list[bytes] = []
    size = rounds = 0
    while size < wanted:
        random.Random(rounds).shuffle(texts)
        lines += [json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts]
        size, rounds = sum(map(len, lines)), rounds + 1
        unique = unique or size
    middle = len(lines) // 2
    parts = {
        "whole": lines,
        "half-0": lines[:middle],
        "half-1": lines[middle:],
        "sample": lines[: len(lines) // sampled],
    }
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(part))
    about = {"bytes": size, "documents": len(lines), "unique_bytes": unique, "rounds": rounds, "sample": sampled}
    return {
        "whole": folder / "whole.jsonl",
        "sample": folder / "sample.jsonl",
        "sampled": len(parts["sample"]),
        "about": about,
    }


def _texts() -> list[str]:
    """Reuters stories, and paragraphs of Gutenberg books, state-of-the-union speeches, WikiText-2, Wikipedia and
    TinyStories."""
    folder = SHARED / "text"
    with gzip.open(folder / "reuters" / "reuters_training.jsonl.gz", "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream]
    books = [*(folder / "gutenberg").glob("*.txt"), *(folder / "state_union").glob("*.txt")]
    for path in sorted(books):
        texts += path.read_text(encoding="latin-1").split("\n\n")
    for path in (folder / "wikitext-2" / "valid.txt", folder / "wiki_demo.txt", folder / "tinystories.txt"):
        texts += path.read_text(errors="ignore").splitlines()
    return [text for text in texts if text.strip() and "\x00" not in text]


def compare(name: str, ways: list[tuple[str, int]], corpus: dict[str, Any], scratch: Path) -> list[dict[str, Any]]:
    """Every way with one tokenizer; the first one's token file is what the others must equal."""
    words = tokenizer_directory(name, SHARED, scratch)
    eos = json.loads((words / "tokenizer_config.json").read_text())["eos_token"]
    size = tokenizer.vocab_size(words)
    task = {
        "words": str(words),
        "eos": eos,
        "eod": tokenizer.eod_id(words),
        "vocab_size": size,
        "dtype": str(token_dtype(size)),
    }
    rows: list[dict[str, Any]] = []
    reference = b""
    for way, workers in ways:
        if way == "datatrove" and not Path(DATATROVE).exists():
            continue
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            runs = [once(way, workers, task, corpus, Path(folder) / "0")]
            while len(runs) < REPEATS and runs[0]["wall"] < QUICK_SECONDS:
                runs.append(once(way, workers, task, corpus, Path(folder) / str(len(runs))))
            made = [b"".join(Path(file).read_bytes() for file in run.pop("files")) for run in runs][-1]
            middle = sorted(runs, key=lambda run: run["wall"])[len(runs) // 2]
            if way.startswith("imbik"):
                middle["steady"] = _steady(way, workers, task, corpus, middle, Path(folder) / "sample")
        reference = reference or made
        same = reference.startswith(made)
        rows.append({"tokenizer": name, "way": way, "workers": workers, "runs": len(runs), "same_ids": same, **middle})
        print(rows[-1], flush=True)
    return _rates(rows, corpus)


def once(way: str, workers: int, task: dict[str, Any], corpus: dict[str, Any], output: Path) -> dict[str, Any]:
    """One process from start to end: wall and CPU seconds, documents and tokens; `factor` of the work was done."""
    ours = way.startswith("imbik")
    source = corpus["sample"] if way.startswith("megatron") else corpus["whole"]
    if ours:
        config = {
            "source": str(source),
            "validation_share": 0,
            "test_share": 0,
            "engine": way.split(", ")[1],
            "workers": workers,
        }
        command = [
            sys.executable,
            "-m",
            "jobs.data",
            "--spec",
            str(write_spec("data", config, {"tokenizer": Path(task["words"])}, output)),
        ]
    else:
        python = DATATROVE if way == "datatrove" else sys.executable
        request = task | {"corpus": [str(source)], "workers": workers, "output": str(output)}
        command = [python, str(HERE / "peers.py"), way, json.dumps(request)]
    threads = str(workers if way == RAW else 1)
    environment = os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    wall, after = time.perf_counter() - begun, os.times()
    assert done.returncode == 0, done.stderr[-3000:]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    told = _ours(output) if ours else json.loads(done.stdout.splitlines()[-1])
    return {"wall": wall, "cpu": cpu, **told}


def _steady(
    way: str, workers: int, task: dict[str, Any], corpus: dict[str, Any], whole: dict[str, Any], output: Path
) -> int:
    """Tokens a second without the start: what the whole corpus took more than the sample."""
    sample = once(way, workers, task, corpus | {"whole": corpus["sample"]}, output)
    return round((whole["tokens"] - sample["tokens"]) / max(whole["wall"] - sample["wall"], 1e-9))


def _ours(output: Path) -> dict[str, Any]:
    told = json.loads((output / "statistics.json").read_text())
    train = told["splits"]["train"]
    return {
        "documents": train["documents"],
        "tokens": train["tokens"],
        "files": [str(output / "train.bin")],
        "engine": told["engine"],
    }


def _rates(rows: list[dict[str, Any]], corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds for the whole corpus, tokens a second, and how many times Megatron's time with as many workers."""
    whole = rows[0]["tokens"]
    for row in rows:
        sampled = row["way"].startswith("megatron")
        expected = corpus["sampled"] if sampled else corpus["about"]["documents"]
        row["nothing_lost"] = row["documents"] == expected and (sampled or row["tokens"] == whole) and row["same_ids"]
        factor = whole / row["tokens"]
        row["total"] = row["seconds"] if row["way"] == RAW else row["wall"] + row.get("seconds", 0) * (factor - 1)
        row["tokens_per_second"] = round(whole / row["total"])
        if "seconds" in row:
            row["steady"] = round(row["tokens"] / row["seconds"])
    for row in rows:
        for peer, key in (("megatron", "of_megatron"), (RAW, "of_raw")):
            others = [other for other in rows if (other["way"], other["workers"]) == (peer, row["workers"])]
            row[key] = round(others[0]["total"] / row["total"], 3) if others else None
    return rows


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    about, versions = record["corpus"], ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "# JSON lines to token files",
        "",
        f"{record['date']}, {record['device']}; {versions}. `python -m tests.bench.tokenization{record['options']}`",
        "",
        (
            f"{about['bytes'] / 1e6:.1f} MB, {about['documents']:,} documents: {about['unique_bytes'] / 1e6:.1f} MB of"
            f" real English text {about['rounds']} times over, in a new order each time (repeats help every engine that"
            " remembers words, gigatoken most)."
        ),
        (
            "Seconds are a whole process, imports included; steady is without the start (ours: the whole corpus less"
            " the sample). `tokenizers alone` is the time inside `encode_batch_fast` only. `megatron` is the loop of"
            " tools/preprocess_data.py with megatron-core's tokenizer and builder, without the tool's further imports,"
            f" on 1/{about['sample']} of the documents; its working seconds are scaled, its start is not. `one call`:"
            " with include_special_tokens, its faster setting."
        ),
        (
            f"A way of less than {QUICK_SECONDS} s ran {REPEATS} times, the median counts. `same`: documents, tokens"
            " and every id are equal."
        ),
    ]
    for name in dict.fromkeys(row["tokenizer"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["tokenizer"] == name]
        lines += ["", f"## {name}, {rows[0]['tokens']:,} tokens", ""]
        lines += [
            "| way | workers | seconds | tokens/s | steady tokens/s | x Megatron | x tokenizers alone | same |",
            "|" + "---|" * 8,
        ]
        lines += [
            f"| {row['way']} | {row['workers']} | {row['total']:.1f} | {row['tokens_per_second']:,} | {row['steady']:,}"
            f" | {row['of_megatron']:.2f} | {_share(row['of_raw'])} | {'yes' if row['nothing_lost'] else 'NO'} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _datatrove_version() -> str:
    if not Path(DATATROVE).exists():
        return "not installed"
    code = "from importlib.metadata import version; print(version('datatrove'))"
    return subprocess.run([DATATROVE, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
