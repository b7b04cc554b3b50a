"""How many near duplicates are found among real documents with planted copies, against all pairs compared in full.

    python -m tests.bench.duplicates

Reads Reuters and C4 of ../shared/data, plants changed copies (1, 3, 5 or 10% of words replaced, other case, boilerplate
added, half of the text), and prints the share of pairs found by their exact Jaccard index, pairs that were joined
although they are below the bound, and the speed of one core."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import sparse

from jobs.curation.duplicates import Duplicates, shingles
from jobs.curation.words import words_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
BOUND = 0.8
BOILERPLATE = "All rights reserved. Click here to subscribe to our newsletter and read more stories like this one."


def texts() -> list[str]:
    """Real documents, then the planted copies of some."""
    with gzip.open(SHARED / "text/reuters/reuters_training.jsonl.gz", "rt", encoding="utf-8") as stream:
        real = [json.loads(line)["text"] for line in stream]
    real += [json.loads(line)["text"] for line in (SHARED / "web/c4_demo.jsonl").read_text("utf-8").splitlines()]
    return real + list(_copies([text for text in real if len(text.split()) > 20], random.Random(1)))


def _copies(sources: list[str], chance: random.Random) -> Iterator[str]:
    for source in chance.sample(sources, 224):
        for share in (0.01, 0.03, 0.05, 0.1):
            yield " ".join("replaced" if chance.random() < share else word for word in source.split())
        yield source.upper()
        yield source.replace(",", "").replace(".", " ;")
        yield f"{source}\n{BOILERPLATE}"
        yield " ".join(source.split()[: len(source.split()) // 2])


def similarities(documents: list[str]) -> dict[tuple[int, int], float]:
    """The exact Jaccard index of every pair that has a tenth in common."""
    sets = [shingles(words_of(text)) for text in documents]
    _, columns = np.unique(np.concatenate(sets), return_inverse=True)
    lengths = np.array([len(runs) for runs in sets])
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), np.float32), columns, np.append(0, np.cumsum(lengths))),
        shape=(len(sets), columns.max() + 1),
    )
    common = sparse.triu(matrix @ matrix.T, k=1).tocoo()
    union = lengths[common.row] + lengths[common.col] - common.data
    pairs = zip(common.row.tolist(), common.col.tolist(), (common.data / union).tolist(), strict=True)
    return {(left, right): share for left, right, share in pairs if share >= 0.1}


def main() -> None:
    """Find, compare, print."""
    documents = texts()
    start, found = time.process_time(), Duplicates(documents.__getitem__, BOUND)
    for text in documents:
        found.add(text)
    added, first = time.process_time() - start, found.clusters()
    seconds, size = time.process_time() - start, sum(len(text.encode()) for text in documents) / 1e6
    pairs = similarities(documents)
    for low, high in ((0.9, 1.01), (0.8, 0.9), (0.7, 0.8), (0.5, 0.7), (0.1, 0.5)):
        wanted = [(left, right) for (left, right), share in pairs.items() if low <= share < high]
        together = sum(first[left] == first[right] for left, right in wanted)
        print(f"pairs with a Jaccard index of {low} to {min(high, 1)}: {together} of {len(wanted)} in one cluster")
    removed = int((first != np.arange(len(documents))).sum())
    print(f"{removed} of {len(documents)} documents repeat an earlier one (bound {BOUND})")
    print(f"{size:.1f} MB: signatures {size / added:.1f} MB/s, with clusters {size / seconds:.1f} MB/s on one core")


if __name__ == "__main__":
    main()
