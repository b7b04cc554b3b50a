"""Judges documents: by which rules one is removed, what of it stays, and the personal data in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from conf.filters import C4, Filter, Pii
from jobs.curation import c4, fineweb, gopher, language, repetition
from jobs.curation.pii import MARKS, Masked, masked
from jobs.curation.prose import Broken, Prose

EXCERPT = 200
"""Characters of a document that are kept as a sample."""
RULES: dict[str, Callable[[Prose, Any], Iterable[Broken]]] = {
    "language": language.broken,
    "repetition": repetition.broken,
    "gopher": gopher.broken,
    "fineweb": fineweb.broken,
}


class Judged(NamedTuple):
    """What becomes of a document. `broken` are the rules by which it is removed: the first alone, or all of them where
    they are only reported. `text` is its new text, None where nothing in it changes; `edited` says that rules, not
    marks, changed it. `personal` counts its personal data by kind. `sample` is a part of it for a person to judge: its
    start where a rule is broken, else what is around the first mark."""

    removed: bool
    broken: tuple[Broken, ...]
    text: str | None
    edited: bool
    personal: dict[str, int]
    sample: str
    size: int
    """Bytes of the text that stays."""


class Judge:
    """Judges documents, one at a time, by the settings of a stage."""

    def __init__(self, rules: Filter | None, kinds: Pii | None) -> None:
        self._rules, self._kinds = rules or Filter(), kinds
        self._removes = self._rules.action == "remove"
        if self._rules.language:
            language.identifier()  # before worker processes are forked, which share it
        self._replaces = kinds is not None and kinds.action == "replace"

    def __call__(self, text: str) -> Judged:
        """The verdict on one document."""
        broken, left = self._read(text)
        # Marks first: a number cut in half would not be recognized.
        sample = escaped(self._masked(text).text[:EXCERPT]) if broken else ""
        if broken and self._removes:
            return Judged(True, broken, None, False, {}, sample, 0)
        edited = not broken and left != text
        kept = left if self._removes else text
        found = self._masked(kept)
        if found.counts and not broken:
            sample = escaped(around_mark(found.text))
        new = found.text if self._replaces else kept
        changed = new if new != text else None
        return Judged(False, broken, changed, edited, found.counts, sample, len(new.encode()))

    def _read(self, text: str) -> tuple[tuple[Broken, ...], str]:
        """The rules that a document breaks, and the lines of it that stay."""
        document, left, found = Prose(text), text, list[Broken]()
        for name, group in self._rules.groups():
            broken: Iterable[Broken]
            if isinstance(group, C4):
                left, broken = c4.cleaned(text, group)
                # Where all rules are told, those that follow read what C4 would have left of the document.
                document = document if broken or left == text else Prose(left)
            else:
                broken = RULES[name](document, group)
            first = islice(broken, 1 if self._removes else None)
            found += (Broken(f"{name}.{rule}", value) for rule, value in first)
            if found and self._removes:
                break
        return tuple(found), left

    def _masked(self, text: str) -> Masked:
        return masked(text, self._kinds) if self._kinds else Masked(text)


def around_mark(text: str) -> str:
    """A part of a text with its first mark in the middle."""
    start = min(place for mark in MARKS.values() if (place := text.find(mark)) >= 0)
    return text[max(0, start - EXCERPT // 2) :][:EXCERPT]


def escaped(text: str) -> str:
    """Text on one line: line ends and signs that cannot be seen become escapes."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
