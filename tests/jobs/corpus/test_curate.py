"""What a rank decides of documents, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.data import DataConfig
from jobs.corpus import curate as module
from jobs.corpus.curate import Curator
from jobs.corpus.decontaminate import clearing_of
from jobs.curation.duplicates import signed
from jobs.curation.question_index import Question

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
REST = " ".join(f"word{number}" for number in range(60)) + "."
RULES = {"gopher": {"min_words": 5, "min_stop_words": None}}
ASKED, MARKED = f"{REST} Mail ann@example.org.\n{RIVER}", f"{REST} Mail <EMAIL>."


def curator(**settings: Any) -> Curator:
    config = DataConfig.model_validate({"source": "x"} | settings)
    return Curator(config, clearing_of(config, [Question("rivers", "0", RIVER)]))


def test_each_block_reads_what_those_before_it_left() -> None:
    """Only training text loses questions, and only what stays has a signature."""
    decide = curator(filter=RULES, pii={}, decontaminate={"action": "cut"}, deduplicate={})
    few, none, held, cut = decide([("too few", "train"), None, (ASKED, "test"), (ASKED, "train")])
    assert few[0].removed and few[0].cleared is None and few[1] is None
    assert none == (module.Curated(), None)
    assert held[0].judged and held[0].judged.text == f"{MARKED}\n{RIVER}" and held[0].cleared is None
    assert cut[0].judged == held[0].judged and cut[0].cleared and cut[0].cleared.text == MARKED
    assert held[1] == signed([f"{MARKED}\n{RIVER}"], near=True) and cut[1] == signed([MARKED], near=True)


def test_blocks_that_are_off_say_nothing() -> None:
    ((nothing, row),) = curator()([(ASKED, "train")])
    assert (nothing.judged, nothing.cleared, row) == (None, None, None)
    ((marked, _),) = curator(pii={})([(ASKED, "train")])
    assert marked.judged and marked.judged.personal == {"emails": 1}
    ((judged, _),) = curator(filter=RULES)([("too few", "train")])
    assert judged.removed
    ((gone, row),) = curator(decontaminate={"action": "drop"}, deduplicate={})([(ASKED, "train")])
    assert gone.removed and gone.judged is None and row is None


@pytest.mark.parametrize("near", [True, False])
def test_signatures_belong_to_their_documents(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 2)
    texts = ["one two", "", "three", "four five", "six"]
    decide = curator(filter=RULES | {"action": "report"}, deduplicate={} if near else {"min_jaccard": None})
    found = decide([(text, "train") if text else None for text in texts])
    for text, (_, row) in zip(texts, found, strict=True):
        assert (row is None) if not text else (row is not None and row.tobytes() == signed([text], near).tobytes())
