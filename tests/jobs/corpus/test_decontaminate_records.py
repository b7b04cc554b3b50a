"""Records with benchmark questions are left out, if that is asked."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.corpus.conversations import Conversation
from jobs.corpus.decontaminate import FILE
from jobs.corpus.decontaminate_records import RecordLeaks
from jobs.curation.leaks import Clearing
from jobs.curation.question_index import Question, QuestionIndex

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"


def record(prompt: str) -> Conversation:
    return Conversation("a.jsonl", 4, [{"role": "user", "content": prompt}], lines=2)


def test_records_with_questions_are_left_out_if_that_is_asked(tmp_path: Path) -> None:
    judge = Clearing(QuestionIndex([Question("rivers", "3", RIVER)]), "drop", frozenset())
    with RecordLeaks(judge, tmp_path) as leaks:
        assert [leaks.take_out(record(prompt)) for prompt in (RIVER, "What else?")] == [True, False]
    assert (leaks.found.read, leaks.found.removed, leaks.found.lines) == (2, 1, 2)
    (row,) = (json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())
    assert (row["file"], row["line"], row["done"], row["subject"]) == ("a.jsonl", 4, "left out", "rivers")


def test_without_questions_no_record_is_left_out(tmp_path: Path) -> None:
    with RecordLeaks(None, tmp_path) as leaks:
        assert not leaks.take_out(record(RIVER))
    assert leaks.found.read == 0 and not (tmp_path / FILE).exists()
