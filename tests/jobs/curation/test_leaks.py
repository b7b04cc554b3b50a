"""What is left of a document that contains benchmark questions, at the bounds of what a cut may leave and do."""

from __future__ import annotations

import hashlib
from typing import Literal

from jobs.curation.leaks import Clearing, matches, text_of
from jobs.curation.question_index import Question, QuestionIndex

RIVER = "Which of the following rivers carries most water past the old harbour of the northern capital in spring?"
HILLS = "What do people in the hills of the western province mostly grow on their small and stony fields?"
LOOK = QuestionIndex([Question("rivers", "3", RIVER), Question("hills", "0", HILLS)])


def clearing(action: Literal["drop", "cut"] = "cut", *reviewed: str) -> Clearing:
    return Clearing(LOOK, action, frozenset(reviewed))


def plain(words: int) -> str:
    """A sentence of so many different words."""
    return " ".join(f"word{number}" for number in range(words)) + "."


def test_fifty_words_must_be_left() -> None:
    left = clearing()(f"{plain(50)}\n{RIVER}")
    assert (left.removed, left.text, left.size) == (False, plain(50), len(plain(50)))
    gone = clearing()(f"{plain(49)}\n{RIVER}")
    assert (gone.removed, gone.text, gone.size) == (True, None, 0)


def test_a_hundred_passages_are_cut_and_no_more() -> None:
    for passages, removed in ((100, False), (101, True)):
        cleared = clearing()(f"{plain(50)}\n" + f"{RIVER}\n" * passages)
        assert cleared.removed is removed, passages
        assert cleared.text == (None if removed else plain(50))


def test_nothing_found_or_allowed_changes_nothing() -> None:
    clean, asked = clearing()("caf\u00e9 here"), f"{plain(50)}\n{RIVER} \u00e9"
    assert clean == (False, None, 10, (), False)
    digest = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
    allowed = clearing("cut", digest)(asked)
    assert (allowed.removed, allowed.text, allowed.allowed, allowed.size) == (False, None, True, len(asked) + 1)
    assert clearing("cut", digest)(f"{asked}!").allowed is False
    dropped = clearing("drop")(asked)
    assert (dropped.removed, dropped.text, dropped.allowed, dropped.size) == (True, None, False, 0)


def test_a_question_that_a_cut_brings_together_goes_too() -> None:
    first, second = HILLS[:43].strip(), HILLS[43:].strip()
    options = "\n".join(f"{letter}. some other words that stand in between here" for letter in "ABCD")
    text = f"{plain(60)}\n{first}\n{RIVER}\n{options}\n{second}\n{plain(60)}"
    assert [match["subject"] for match in matches(LOOK, text)] == ["rivers"]
    cleared = clearing()(text)
    assert cleared.text is not None and "hills" not in cleared.text and "stony" not in cleared.text
    assert [(one["subject"], one["index"]) for one in cleared.found] == [("rivers", 3), ("hills", 0)]
    assert len({one["digest"] for one in cleared.found}) == 1


def test_a_row_of_matches_is_short() -> None:
    long = " ".join(f"longer{number}" for number in range(60))
    (row,) = matches(QuestionIndex([Question("long", "7", long)]), long)
    assert (row["question"], row["excerpt"]) == (long[:300], long[:300])
    assert (row["index"], row["coverage"], len(row["digest"])) == (7, 1, 16)
    (part,) = matches(LOOK, " ".join(RIVER.split()[:14]))
    assert part["coverage"] == 0.778  # 14 of 18


def test_the_text_of_records_is_all_that_is_said() -> None:
    messages = [{"content": "one"}, {"content": None}, {"role": "tool"}, {"content": "two"}]
    assert text_of({"messages": messages}) == "one\ntwo"
    assert text_of({"text": "three", "messages": messages}) == "three"
