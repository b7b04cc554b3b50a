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
Task = TypeVar("Task")
Kept = TypeVar("Kept")
BATCH_BYTES = 1 << 20
SMALL = 4 << 20
"""Bytes of a corpus for which processes are not worth their start."""

_function: Callable[[Any], Any] | None = None
"""Set before worker processes are forked, which share it."""


def each(function: Callable[[str], Result], split: str, splits: Splits, workers: int | None) -> Iterator[Result]:
    """The results for the documents of a split, in order, whatever the number of `workers` (None: one a core)."""
    wanted = 1 if sum(splits.bytes.values()) <= SMALL else workers or os.cpu_count() or 1

    def results(lines: list[bytes]) -> list[Result]:
        return [function(_text(line)) for line in lines]

    for _, found in in_processes(results, ((None, lines) for lines in _batches(splits, split)), wanted):
        yield from found


def in_processes(
    function: Callable[[Task], Result], tasks: Iterator[tuple[Kept, Task]], workers: int
) -> Iterator[tuple[Kept, Result]]:
    """The results for tasks, in order, in so many processes; what is kept of each task stays here."""
    global _function
    _function = function
    if workers == 1:
        for kept, task in tasks:
            yield kept, function(task)
        return
    waiting: deque[tuple[Kept, Future[Result]]] = deque()
    # A worker waits for ever for a job that was killed.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=die_with_parent, initargs=(signal.SIGKILL,)
    ) as pool:
        for kept, task in tasks:
            waiting.append((kept, pool.submit(_result, task)))
            if len(waiting) > 2 * workers:
                kept, future = waiting.popleft()
                yield kept, future.result()
        for kept, future in waiting:
            yield kept, future.result()


def _batches(splits: Splits, split: str) -> Iterator[list[bytes]]:
    with splits.file(split).open("rb", buffering=1 << 20) as stream:
        while lines := stream.readlines(BATCH_BYTES):
            yield lines


def _result(task: Any) -> Any:
    assert _function is not None
    return _function(task)


def _text(line: bytes) -> str:
    return str(orjson.loads(line)["text"])
