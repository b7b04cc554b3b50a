"""Applies a function to every document of a split, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

import orjson

from conf.process import die_with_parent
from jobs.corpus.splits import Splits

Result = TypeVar("Result")
BATCH_BYTES = 1 << 20
SMALL = 4 << 20
"""Bytes of a corpus for which processes are not worth their start."""

_function: Callable[[str], Any] | None = None
"""Set before worker processes are forked, which share it."""


def each(function: Callable[[str], Result], split: str, splits: Splits, workers: int | None) -> Iterator[Result]:
    """The results for the documents of a split, in order, whatever the number of `workers` (None: one a core)."""
    global _function
    _function = function
    wanted = 1 if sum(splits.bytes.values()) <= SMALL else workers or os.cpu_count() or 1
    if wanted == 1:
        for lines in _batches(splits, split):
            yield from map(function, map(_text, lines))
        return
    waiting: deque[Future[list[Result]]] = deque()
    # A worker waits for ever for a job that was killed.
    with ProcessPoolExecutor(
        wanted, multiprocessing.get_context("fork"), initializer=die_with_parent, initargs=(signal.SIGKILL,)
    ) as pool:
        for lines in _batches(splits, split):
            waiting.append(pool.submit(_results, lines))
            if len(waiting) > 2 * wanted:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _batches(splits: Splits, split: str) -> Iterator[list[bytes]]:
    with splits.file(split).open("rb", buffering=1 << 20) as stream:
        while lines := stream.readlines(BATCH_BYTES):
            yield lines


def _results(lines: list[bytes]) -> list[Any]:
    assert _function is not None
    return [_function(_text(line)) for line in lines]


def _text(line: bytes) -> str:
    return str(orjson.loads(line)["text"])
