"""What is counted of benchmark questions in documents and records."""

from __future__ import annotations

import io
import json
from pathlib import Path

from jobs.corpus.conversations import Conversation
from jobs.corpus.decontaminate import FILE, Decontaminated
from jobs.corpus.decontaminate_records import RecordLeaks
from jobs.curation.leaks import Cleared, Clearing
from jobs.curation.question_index import Question, QuestionIndex

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
MATCH = {"subject": "rivers", "index": 3}


def test_what_is_done_with_documents_is_counted() -> None:
    found, stream = Decontaminated(action="cut"), io.BytesIO()
    found.add(Cleared(False, None, 5), ("a", 1, 9), stream)
    assert found == Decontaminated(action="cut", read=1) and stream.getvalue() == b""
    assert found.sentence() == (
        "0 benchmark questions occur in 0 of 1 training documents: 0 are left out, 0 lose the passage"
    )
    for line, one in enumerate(
        [
            Cleared(True, None, 0, (MATCH,)),
            Cleared(True, None, 0, (MATCH, MATCH | {"index": 1})),
            Cleared(False, "cut", 3, ({"subject": "hills", "index": 0},)),
            Cleared(False, None, 9, (MATCH,), allowed=True),
        ],
        2,
    ):
        found.add(one, ("a", line, line), stream)
    assert found.counts() == {
        **{"action": "cut", "read": 5, "removed": 2, "cut": 1, "allowed": 1},
        "found": {"hills": [0], "rivers": [1, 3]},
    }
    assert found.lines == 2 + 3
    assert found.sentence() == (
        "3 benchmark questions occur in 4 of 5 training documents: 2 are left out, 1 lose the passage, 1 are allowed by"
        " contamination.reviewed"
    )
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(row["file"], row["line"], row["done"], row["index"]) for row in rows] == [
        *(("a", 2, "left out", 3), ("a", 3, "left out", 3), ("a", 3, "left out", 1)),
        *(("a", 4, "cut", 0), ("a", 5, "allowed", 3)),
    ]


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
