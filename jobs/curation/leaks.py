"""Takes benchmark questions out of the text that models learn from: whole documents, or the passages alone."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple

from jobs.curation.passages import without
from jobs.curation.question_index import QuestionIndex, kept_words

EXCERPT = 300
"""Characters of a question and of a passage that are kept for a person to judge."""
MIN_REST = 50
"""Words that must remain of a document after a cut; less is left out as a whole."""
MAX_CUTS = 100
"""Passages cut out of a document; one with more is a list of questions, and is left out."""

Found = dict[str, Any]


class Cleared(NamedTuple):
    """What becomes of a document: removed, or with another text, or as it was (`text` None, nothing found). `found` are
    the questions in it, `allowed` says that a person has looked at it before, and `size` is the bytes that stay."""

    removed: bool
    text: str | None
    size: int
    found: tuple[Found, ...] = ()
    allowed: bool = False


class Clearing:
    """Clears documents, one at a time. `reviewed` are the digests of those that stay whatever they contain."""

    def __init__(self, look: QuestionIndex, action: Literal["drop", "cut"], reviewed: frozenset[str]) -> None:
        self.look, self._cuts, self._reviewed = look, action == "cut", reviewed

    def __call__(self, text: str) -> Cleared:
        """The verdict on one document."""
        found = matches(self.look, text)
        if not found:
            return Cleared(False, None, len(text.encode()))
        if digest_of(text) in self._reviewed:
            return Cleared(False, None, len(text.encode()), tuple(found), allowed=True)
        left = self._cut(text, found) if self._cuts else None
        if left is None:
            return Cleared(True, None, 0, tuple(found))
        return Cleared(False, left, len(left.encode()), tuple(found))

    def _cut(self, text: str, found: list[Found]) -> str | None:
        """What is left without any question; None where that is too little. Questions that come together only by a cut
        are cut too, and added to `found`."""
        digest = digest_of(text)
        known = {(one["subject"], one["index"]) for one in found}
        for _ in range(MAX_CUTS + 1):
            match = next(iter(self.look.find(text)), None)
            if match is None:
                return text if len(kept_words(text)) >= MIN_REST else None
            if (match.question.benchmark, int(match.question.id)) not in known:
                found.append(_row(self.look, text, match) | {"digest": digest})
            text = without(text, match.first_word, match.last_word)
        return None


def matches(look: QuestionIndex, text: str) -> list[Found]:
    """The questions in a text, as rows of matches.jsonl; with the digest by which a person can allow the text."""
    found = look.find(text)
    digest = digest_of(text) if found else ""
    return [_row(look, text, match) | {"digest": digest} for match in found]


def _row(look: QuestionIndex, text: str, match: Any) -> Found:
    return {
        "subject": match.question.benchmark,
        "index": int(match.question.id),
        "coverage": round(match.coverage, 3),
        "question": match.question.text[:EXCERPT],
        "excerpt": look.excerpt(text, match)[:EXCERPT],
    }


def digest_of(text: str) -> str:
    """16 digits that stand for a text in contamination.reviewed."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def text_of(row: dict[str, Any]) -> str:
    """The text of a document, or of all messages of a record."""
    return str(row["text"]) if "text" in row else text_of_messages(row["messages"])


def text_of_messages(messages: Any) -> str:
    """All that is said in a conversation."""
    return "\n".join(str(message["content"]) for message in messages if message.get("content"))
