"""How many processes decide about documents, and how far they read ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.corpus import each as module
from jobs.corpus.each import each, in_processes
from jobs.corpus.readers import Document
from jobs.corpus.splits import Splits


@pytest.mark.parametrize(
    ("size", "workers", "cores", "processes"),
    [(4 << 20, 3, 8, 1), ((4 << 20) + 1, 3, 8, 3), ((4 << 20) + 1, None, 8, 8), ((4 << 20) + 1, None, None, 1)],
)
def test_a_small_corpus_is_one_process_work(
    size: int, workers: int | None, cores: int | None, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(function: object, tasks: object, wanted: int) -> Iterator[tuple[None, list[str]]]:
        asked.append(wanted)
        yield None, ["found"]

    monkeypatch.setattr(module, "in_processes", counted)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    splits = Splits(tmp_path)
    splits.bytes |= {"train": size - 1, "test": 1}
    assert list(each(len, "train", splits, workers)) == ["found"] and asked == [processes]


def test_results_are_in_the_order_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1)
    with Splits(tmp_path) as splits:
        for text in ("one", "three", "", "seven"):
            splits.add("train", Document("a", 1, text), text)
        splits.close()
        assert list(each(len, "train", splits, 2)) == [3, 5, 0, 5]


def test_one_worker_is_this_process() -> None:
    own = os.getpid()
    assert list(in_processes(lambda _: os.getpid(), iter([("a", 1), ("b", 2)]), 1)) == [("a", own), ("b", own)]
    others = [found for _, found in in_processes(lambda _: os.getpid(), iter([("a", 1), ("b", 2)]), 2)]
    assert len(others) == 2 and own not in others


def test_few_tasks_wait_for_their_results() -> None:
    given = []

    def tasks() -> Iterator[tuple[int, int]]:
        for number in range(20):
            given.append(number)
            yield number, number

    found = in_processes(lambda task: -task, tasks(), 2)
    assert next(found) == (0, 0) and len(given) == 5
    assert list(found) == [(number, -number) for number in range(1, 20)]
