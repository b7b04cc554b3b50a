"""The blocks that decide document by document (filters, marks, benchmark questions) as one step of a datatrove
pipeline, for whoever runs one, on any of its executors. datatrove takes any callable as a step, so that nothing of it
is imported or installed here."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson

from conf.files import write_whole
from conf.stages.data import DataConfig
from jobs.corpus.curate import Curator
from jobs.corpus.decontaminate import clearing_of
from jobs.corpus.shards import Curated
from jobs.curation.question_index import Question

TOGETHER = 64
"""Documents decided on at once."""


class Document(Protocol):
    """As much of datatrove's Document as is used."""

    text: str


One = TypeVar("One", bound=Document)


class CurationStep:
    """A step by the settings of a recipe's `data` section; `source` and what concerns all documents together
    (`deduplicate`, splits) are not used. Each rank writes what it did to `counts`/RANK.json: what it read is what it
    kept and what it removed by reason."""

    def __init__(self, data: Mapping[str, Any], counts: str | Path, questions: Iterable[Question] = ()) -> None:
        self._config = DataConfig.model_validate({"source": "world", **data, "deduplicate": None})
        self._counts, self._questions = Path(counts), list(questions)

    def __call__(self, data: Iterable[One], rank: int = 0, world_size: int = 1) -> Iterator[One]:
        """The documents that stay, with their new texts."""
        curator = Curator(self._config, clearing_of(self._config, self._questions))
        documents, found = iter(data), Counter[str]()
        while batch := list(itertools.islice(documents, TOGETHER)):
            verdicts = curator([(document.text, "train") for document in batch])
            for document, (curated, _) in zip(batch, verdicts, strict=True):
                found["read"] += 1
                if curated.removed:
                    found[f"removed.{_reason(curated)}"] += 1
                    continue
                found["kept"] += 1
                if (text := _text(curated)) is not None:
                    found["changed"] += 1
                    document.text = text
                yield document
        removed = sum(count for name, count in found.items() if name.startswith("removed."))
        assert found["read"] == found["kept"] + removed, (
            f"of {found['read']} documents {found['kept'] + removed} are left"
        )
        self._counts.mkdir(parents=True, exist_ok=True)
        write_whole(self._counts / f"{rank:05}.json", orjson.dumps(dict(found), option=orjson.OPT_SORT_KEYS).decode())


def _reason(curated: Curated) -> str:
    judged = curated.judged
    return judged.broken[0].rule if judged and judged.removed else "decontaminate"


def _text(curated: Curated) -> str | None:
    """The new text of a document that stays; None where it is as it was."""
    texts = [one.text for one in (curated.judged, curated.cleared) if one and one.text is not None]
    return texts[-1] if texts else None
