"""Text of any size with the lengths and the word frequencies of web pages, and planted copies, as JSON lines.

`python -m tests.bench.corpus_of FOLDER MEGABYTES [FILES]` writes it; the same arguments give the same bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import orjson

STOP = ("the", "of", "and", "to", "in", "that", "is", "for", "with", "on", "as", "have")
LETTERS = "etaoinshrdlucmfw"
VOCABULARY = 40_000
COPIES, NEAR = 0.06, 0.06
"""Shares of documents that are an earlier one, word by word or with one word in thirty changed."""
KEPT = 2_000
"""Earlier documents of which copies are made."""


def vocabulary(chance: np.random.Generator) -> list[str]:
    """Words by frequency, the most common first."""
    lengths = np.clip(chance.poisson(5.5, VOCABULARY), 3, 14)
    letters = np.array(list(LETTERS))
    return [*STOP, *("".join(letters[chance.integers(len(LETTERS), size=n)]) for n in lengths)]


def page(words: np.ndarray, weights: np.ndarray, chance: np.random.Generator) -> str:
    """A page of 40 to some thousand words (median 350), in sentences and paragraphs."""
    count = int(np.clip(chance.lognormal(5.85, 0.9), 40, 20_000))
    picked = words[np.searchsorted(weights, chance.random(count))].tolist()
    parts, start = [], 0
    while start < count:
        end = min(count, start + int(chance.integers(6, 25)))
        sentence = " ".join(picked[start:end])
        parts.append(sentence[:1].upper() + sentence[1:] + ("." if chance.random() < 0.85 else ".\n"))
        start = end
    return " ".join(parts).replace("\n ", "\n").strip()


def changed(text: str, words: np.ndarray, chance: np.random.Generator) -> str:
    """The text with one word in thirty replaced."""
    old = text.split(" ")
    for place in chance.integers(len(old), size=max(1, len(old) // 120)):
        old[place] = str(words[chance.integers(len(words))])
    return " ".join(old)


def write(folder: Path, megabytes: int, files: int = 8) -> dict[str, int]:
    """Write the files; returns documents, bytes of text, and what was planted."""
    chance = np.random.default_rng(18)
    words = np.array(vocabulary(chance))
    frequencies = 1 / np.arange(3, len(words) + 3)
    weights = np.cumsum(frequencies / frequencies.sum())
    folder.mkdir(parents=True, exist_ok=True)
    counts, kept = {"documents": 0, "bytes": 0, "copies": 0, "near": 0}, list[str]()
    for number in range(files):
        with (folder / f"part-{number:03}.jsonl").open("wb", buffering=1 << 20) as stream:
            while counts["bytes"] < megabytes * 1_000_000 * (number + 1) / files:
                kind = chance.random()
                if kept and kind < COPIES:
                    text, what = kept[chance.integers(len(kept))], "copies"
                elif kept and kind < COPIES + NEAR:
                    text, what = changed(kept[chance.integers(len(kept))], words, chance), "near"
                else:
                    text, what = page(words, weights, chance), ""
                    if len(kept) < KEPT:
                        kept.append(text)
                    else:
                        kept[chance.integers(KEPT)] = text
                stream.write(orjson.dumps({"text": text}) + b"\n")
                counts["documents"] += 1
                counts["bytes"] += len(text.encode())
                if what:
                    counts[what] += 1
    return counts


def more(folder: Path, source: Path, times: int) -> int:
    """Write `source`'s files so many times, each time with other letters, so that no document is in two of them but
    copies stay copies; returns the bytes. Stop words do not stay."""
    small, total = LETTERS.replace("n", ""), 0  # not in line ends, which JSON writes with an n
    folder.mkdir(parents=True, exist_ok=True)
    for turn in range(times):
        turned = small[turn:] + small[:turn]
        table = bytes.maketrans((small + small.upper()).encode(), (turned + turned.upper()).encode())
        for file in sorted(source.glob("*.jsonl")):
            with file.open("rb") as old, (folder / f"turn-{turn:02}-{file.name}").open("wb", 1 << 20) as new:
                for line in old:
                    total += new.write(line[:9] + line[9:].translate(table))
    return total


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:4])))
