"""The quality filters beside datatrove's: the same decisions, and the speed of one core.

    DATATROVE=/path/to/python python -m tests.bench.filters

Reads texts of ../shared/data. DATATROVE names the Python of an environment with datatrove 0.10 and spaCy; it is asked
twice, as shipped and with our expressions for words. Also the speed of the marks for personal data and of the
whole chain. Writes results/filters.md."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conf.filters import C4, Filter, FineWeb, Gopher, Pii, Repetition
from jobs.curation import c4, fineweb, gopher, repetition
from jobs.curation.filters import Judge
from jobs.curation.pii import masked
from jobs.curation.prose import ASCII_SENTENCE_END, SENTENCE_END, WORDS, Broken, Prose

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DATATROVE = os.environ.get("DATATROVE", "/tmp/dt-venv/bin/python")
PEER = Path(__file__).with_name("filters_peer.py")
RESULT = Path(__file__).with_name("results") / "filters.md"
LINES = C4(terminal_punctuation=False)

GROUPS: dict[str, Callable[[str], Iterable[Broken]]] = {
    "repetition": lambda text: repetition.broken(Prose(text), Repetition()),
    "gopher": lambda text: gopher.broken(Prose(text), Gopher()),
    "c4": lambda text: c4.cleaned(text, LINES)[1],
    "fineweb": lambda text: fineweb.broken(Prose(text), FineWeb()),
}


def texts() -> dict[str, list[str]]:
    """Documents by source."""
    with gzip.open(SHARED / "text/reuters/reuters_training.jsonl.gz", "rt", encoding="utf-8") as stream:
        reuters = [json.loads(line)["text"] for line in stream]
    articles = re.split(r"(?m)^(?= = [^=].* = $)", (SHARED / "text/wikitext-2/valid.txt").read_text("utf-8"))
    speeches = [path.read_bytes().decode("utf-8", "ignore") for path in sorted((SHARED / "text/state_union").glob("*"))]
    wine = (SHARED / "web/webtext_wine.txt").read_text("utf-8", "ignore").splitlines()
    return {
        "C4 pages": [
            json.loads(line)["text"] for line in (SHARED / "web/c4_demo.jsonl").read_text("utf-8").splitlines()
        ],
        "Reuters": reuters[:400],
        "Wikipedia": (SHARED / "text/wiki_demo.txt").read_text("utf-8").splitlines(),
        "WikiText-2": [text for text in articles if text.strip()],
        "State of the Union": [text[:20_000] for text in speeches],
        "wine forum": [line for line in wine if line.strip()][:200],
    }


def theirs(documents: dict[str, list[str]], own_words: bool) -> dict[str, Any]:
    """datatrove's decisions, edits and seconds, with its words or ours."""
    words, ends = WORDS.pattern, [ASCII_SENTENCE_END.pattern, SENTENCE_END.pattern]
    task = {"texts": documents, "words": None if own_words else words, "ends": ends}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(task, file)
        file.flush()
        done = subprocess.run([DATATROVE, str(PEER), file.name], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows(documents: dict[str, list[str]]) -> list[str]:
    """A row of the table for each source and group."""
    shipped, same_words, found = theirs(documents, True), theirs(documents, False), []
    for source, all_texts in documents.items():
        size = sum(len(text.encode()) for text in all_texts) / 1e6
        for name, group in GROUPS.items():
            start = time.process_time()
            ours = {number for number, text in enumerate(all_texts) if next(iter(group(text)), None)}
            seconds = time.process_time() - start
            equal = [len(all_texts) - len(ours ^ set(peer[source][name]["removed"])) for peer in (same_words, shipped)]
            peer_texts = same_words[source][name]["texts"]
            edits = ""
            if name == "c4":
                stays = [number for number in range(len(all_texts)) if number not in ours]
                same = sum(c4.cleaned(all_texts[number], LINES)[0] == peer_texts[number] for number in stays)
                edited = sum(all_texts[number] != peer_texts[number] for number in stays)
                edits = f"; {edited} edited, {same} of {len(stays)} alike"
            speeds = [size / max(1e-6, value[source][name]["seconds"]) for value in (same_words, shipped)]
            found.append(
                f"| {source} | {name} | {len(ours)} of {len(all_texts)}{edits} | {equal[0]} | {equal[1]} |"
                f" {size / seconds:.1f} | {speeds[0]:.2f} | {speeds[1]:.2f} |"
            )
            print(found[-1], flush=True)
    return found


def speeds(documents: dict[str, list[str]]) -> list[str]:
    """MB/s of the whole chain, and of the marks alone."""
    every = [text for some in documents.values() for text in some]
    size = sum(len(text.encode()) for text in every) / 1e6
    rules = Filter(repetition=Repetition(), gopher=Gopher(), c4=LINES, fineweb=FineWeb())
    report = rules.model_copy(update={"action": "report"})
    chains: dict[str, Callable[[str], Any]] = {
        "all four groups": Judge(rules, None),
        "all four groups, `action: report`": Judge(report, None),
        "personal data": lambda text: masked(text, Pii()),
        "both": Judge(rules, Pii()),
    }
    found = []
    for name, chain in chains.items():
        start = time.process_time()
        for text in every:
            chain(text)
        found.append(f"| {name} | {size / (time.process_time() - start):.1f} |")
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Compare, print, write."""
    documents = texts()
    table, chain = rows(documents), speeds(documents)
    RESULT.write_text(
        "\n".join(
            [
                "datatrove 0.10.1 and spaCy 3.8.18 under Python 3.11, one core of a busy machine; processor time."
                " `python -m tests.bench.filters`",
                "",
                "Documents removed by each group alone, with the published bounds (C4 without its rule on the ends of"
                " lines, as FineWeb has it), and how many are judged alike: by datatrove with our expression for words,"
                " and as shipped.",
                "",
                "| source | group | removed | alike, same words | alike, as shipped | ours, MB/s | datatrove, our words"
                " | datatrove as shipped |",
                "|---|---|---|---:|---:|---:|---:|---:|",
                *table,
                "",
                "| ours, all sources | MB/s |",
                "|---|---:|",
                *chain,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
