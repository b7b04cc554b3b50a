"""What is counted of benchmark questions in documents."""

from __future__ import annotations

import io
import json

from jobs.corpus.decontaminate import Decontaminated
from jobs.curation.leaks import Cleared

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
