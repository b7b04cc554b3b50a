"""Leaves out the documents of a corpus that break a rule, edits others and marks personal data; writes samples of what
it did to filtered.jsonl."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import orjson

from conf.process import die_with_parent
from conf.sources import SPLITS
from conf.stages.data import DataConfig
from jobs.corpus.filter_counts import Filtered
from jobs.corpus.splits import Splits
from jobs.curation.filters import Judge, Judged

BATCH_BYTES = 1 << 20
SMALL = 4 << 20
"""Bytes of a corpus for which processes are not worth their start."""

_judge: Judge | None = None
"""Set before worker processes are forked, which share it."""


def filter_documents(config: DataConfig, splits: Splits) -> Filtered:
    """Judge every document of all splits. Raises ValueError where a split loses all it had. Only after the splits are
    closed."""
    global _judge
    _judge = Judge(config.filter, config.pii)
    found = Filtered(config.filter, config.pii)
    before = dict(splits.documents)
    workers = 1 if sum(splits.bytes.values()) <= SMALL else config.workers or os.cpu_count() or 1
    for split in SPLITS:
        splits.rewrite(split, _counted(found, split, splits, workers))
    found.check(before, splits.documents)
    with (splits.file("train").parent / "filtered.jsonl").open("wb") as stream:
        stream.writelines(orjson.dumps(row) + b"\n" for row in found.samples)
    return found


def _counted(found: Filtered, split: str, splits: Splits, workers: int) -> Iterator[Judged]:
    for place, judged in zip(splits.places(split), _judged(splits, split, workers), strict=True):
        found.add(judged, split, place)
        yield judged


def _judged(splits: Splits, split: str, workers: int) -> Iterator[Judged]:
    """The verdicts on the documents of a split, in order, whatever the number of workers."""
    if workers == 1:
        for lines in _batches(splits, split):
            yield from _verdicts(lines)
        return
    waiting: deque[Future[list[Judged]]] = deque()
    # A worker waits for ever for a job that was killed.
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=die_with_parent, initargs=(signal.SIGKILL,)
    ) as pool:
        for lines in _batches(splits, split):
            waiting.append(pool.submit(_verdicts, lines))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _batches(splits: Splits, split: str) -> Iterator[list[bytes]]:
    with splits.file(split).open("rb", buffering=1 << 20) as stream:
        while lines := stream.readlines(BATCH_BYTES):
            yield lines


def _verdicts(lines: list[bytes]) -> list[Judged]:
    assert _judge is not None
    return [_judge(orjson.loads(line)["text"]) for line in lines]
