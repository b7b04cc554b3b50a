"""Leaves out the documents of a corpus that break a rule, edits others and marks personal data; writes samples of what
it did to filtered.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson

from conf.sources import SPLITS
from conf.stages.data import DataConfig
from jobs.corpus.each import each
from jobs.corpus.filter_counts import Filtered
from jobs.corpus.splits import Splits
from jobs.curation.filters import Judge, Judged

Verdicts = Callable[[str, Splits], Iterator[Judged]]


def filter_documents(config: DataConfig, splits: Splits, verdicts: Verdicts | None = None) -> Filtered:
    """Judge every document of all splits; with `verdicts`, they have been judged. Raises ValueError where a split loses
    all it had. Only after the splits are closed."""
    if verdicts is None:
        judge = Judge(config.filter, config.pii)

        def verdicts(split: str, splits: Splits) -> Iterator[Judged]:
            return each(judge, split, splits, config.workers)

    found = Filtered(config.filter, config.pii)
    before = dict(splits.documents)
    for split in SPLITS:
        splits.rewrite(split, _counted(found, split, splits, verdicts(split, splits)))
    found.check(before, splits.documents)
    with (splits.file("train").parent / "filtered.jsonl").open("wb") as stream:
        stream.writelines(orjson.dumps(row) + b"\n" for row in found.samples)
    return found


def _counted(found: Filtered, split: str, splits: Splits, verdicts: Iterator[Judged]) -> Iterator[Judged]:
    for place, judged in zip(splits.places(split), verdicts, strict=True):
        found.add(judged, split, place)
        yield judged
