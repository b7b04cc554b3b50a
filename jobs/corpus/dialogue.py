"""Conversations as filters and deduplication read them: their text, the verdict on it, and their messages with marks in
place of personal data."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conf.filters import Filter, Pii
from jobs.corpus.messages import LEADING, Message
from jobs.curation.filters import Judge, Judged, around_mark, escaped
from jobs.curation.pii import masked

TEXTS = ("reasoning_content", "content")
"""Fields of a message that are text for the model, in the order in which it is learned."""


def said(messages: Any) -> str:
    """Prompts and responses as one text, thoughts included. System messages are left out: those of different
    conversations are often the same, and longer than what is said."""
    return _joined(message for message in messages if message["role"] not in LEADING)


def first_prompt(messages: list[Message]) -> str:
    """The first thing that the user says, by which a record is put into a split."""
    return next(str(message["content"]) for message in messages if message["role"] == "user").strip()


class DialogueJudge:
    """Judges conversations, one at a time. Rules read what is `said`, and remove a conversation or leave it whole;
    marks are put into each message, system messages included."""

    def __init__(self, rules: Filter | None, kinds: Pii | None) -> None:
        self._judge, self._kinds = Judge(rules, kinds), kinds

    def __call__(self, messages: list[Message]) -> tuple[Judged, list[Message]]:
        """The verdict, and the messages as they stay."""
        judged = self._judge(said(messages))._replace(edited=False)
        if judged.removed or self._kinds is None:
            return judged, messages
        marked, counts = _marked(messages, self._kinds)
        sample = judged.sample if judged.broken else escaped(around_mark(_joined(marked))) if counts else ""
        judged = judged._replace(personal=counts, sample=sample)
        return judged, marked if counts and self._kinds.action == "replace" else messages


def _marked(messages: list[Message], kinds: Pii) -> tuple[list[Message], dict[str, int]]:
    """The messages with marks, and how many there are of each kind."""
    counts, marked = Counter[str](), []
    for message in messages:
        found = {name: masked(message[name], kinds) for name in TEXTS if message.get(name)}
        for one in found.values():
            counts.update(one.counts)
        marked.append(message | {name: one.text for name, one in found.items()})
    return marked, dict(counts)


def _joined(messages: Any) -> str:
    return "\n".join(str(message[name]) for message in messages for name in TEXTS if message.get(name))
