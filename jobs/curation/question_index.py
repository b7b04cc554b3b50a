"""Finds benchmark questions in training text.

A question is found where half of its words, and at least thirteen of them or all, stand close together in a document in
runs of five; the runs in any order, so that shuffled options and line breaks do not hide it. Single letters are left
out on both sides: they are mostly labels of options. Of a question of fewer than eight words only the whole with its
options counts: alone it may be a common phrase. Longer runs, as of GPT-3 and Llama 3, miss short and reworded
questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.curation.words import ngrams, words_of

NGRAM = 5
MIN_WORDS = 13
SHORT = 8
UNKNOWN = np.uint64(0)
"""Stands for every word that no question has."""


@dataclass(frozen=True)
class Question:
    """A question of a benchmark; options are empty where the answer is free."""

    benchmark: str
    id: str
    text: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A question that a text contains: the share of its words, and where, counted in the text's words."""

    question: Question
    coverage: float
    first_word: int
    last_word: int


@dataclass(frozen=True)
class _Form:
    """One way to write a question: alone, or with its options."""

    question: int
    words: int


class QuestionIndex:
    """Questions to look for in texts. `unknowable` are those that are too short to be told from common phrases."""

    def __init__(self, questions: Iterable[Question], min_coverage: float = 0.5) -> None:
        self.questions, self.min_coverage = list(questions), min_coverage
        self.unknowable: list[Question] = []
        self._ids: dict[str, int] = {}
        self._forms: list[_Form] = []
        grams: list[NDArray[np.uint64]] = []
        for number, question in enumerate(self.questions):
            forms = _forms(question)
            if not forms:
                self.unknowable.append(question)
            for words in forms:
                self._forms.append(_Form(number, len(words)))
                grams.append(ngrams(self._known(words), NGRAM))
        lengths = [len(runs) for runs in grams]
        form_of = np.repeat(np.arange(len(grams)), lengths)
        offset = np.concatenate([np.arange(length) for length in lengths]) if grams else np.empty(0, np.int64)
        every = np.concatenate(grams) if grams else np.empty(0, np.uint64)
        order = np.argsort(every, kind="stable")
        self._hashes, starts = np.unique(every[order], return_index=True)
        self._uses = np.stack([form_of[order], offset[order]], axis=1)
        self._starts = np.append(starts, len(every))

    def find(self, text: str) -> list[Match]:
        """The questions in a text, each once, those with the largest share of it first."""
        words = kept_words(text)
        ids = np.fromiter((self._ids.get(word, 0) for word in words), np.uint64, len(words))
        if not len(self._hashes) or len(ids) < NGRAM:
            return []
        hashes = ngrams(ids, NGRAM)
        places = np.searchsorted(self._hashes, hashes)
        places[places == len(self._hashes)] = 0
        hits = np.flatnonzero(self._hashes[places] == hashes)
        if not len(hits):
            return []
        by_form: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for position, place in zip(hits.tolist(), places[hits].tolist(), strict=True):
            for form, offset in self._uses[self._starts[place] : self._starts[place + 1]].tolist():
                by_form[form].append((position, offset))
        best: dict[int, Match] = {}
        for form, found in by_form.items():
            match = self._match(self._forms[form], found)
            question = self._forms[form].question
            if match and (question not in best or match.coverage > best[question].coverage):
                best[question] = match
        return sorted(best.values(), key=lambda match: -match.coverage)

    def excerpt(self, text: str, match: Match) -> str:
        """The words of the text from the first to the last that a match has in common."""
        return " ".join(kept_words(text)[match.first_word : match.last_word + 1])

    def _match(self, form: _Form, found: list[tuple[int, int]]) -> Match | None:
        """The window of twice the form's length that holds most of its words, if they are enough; `found` are
        (position in the text, offset in the form) of equal runs, in order."""
        needed = max(self.min_coverage * form.words, min(MIN_WORDS, form.words))
        if NGRAM * len(found) < needed:
            return None
        counts = [0] * form.words
        covered = best = start = 0
        span = (0, 0)
        for position, offset in found:
            covered += _count(counts, offset, 1)
            while position - found[start][0] >= 2 * form.words:
                covered -= _count(counts, found[start][1], -1)
                start += 1
            if covered > best:
                best, span = covered, (found[start][0], position + NGRAM - 1)
        return Match(self.questions[form.question], best / form.words, *span) if best >= needed else None

    def _known(self, words: list[str]) -> NDArray[np.uint64]:
        return np.fromiter((self._ids.setdefault(word, len(self._ids) + 1) for word in words), np.uint64, len(words))


def _count(counts: list[int], offset: int, change: int) -> int:
    """Change the counts of the words of one run; returns how many of them came into or went out of use."""
    changed = 0
    for word in range(offset, offset + NGRAM):
        changed += (counts[word] == 0) if change > 0 else (counts[word] == 1)
        counts[word] += change
    return changed


def kept_words(text: str) -> list[str]:
    """The words of a text that are compared, in order."""
    return [word for word in words_of(text) if len(word) > 1 or word.isdigit()]


def _forms(question: Question) -> list[list[str]]:
    """The words to look for; none where all ways to write the question are too short."""
    alone = kept_words(question.text)
    whole = alone + [word for option in question.options for word in kept_words(option)]
    forms = [alone] if len(alone) >= SHORT else []
    if question.options and len(whole) >= SHORT:
        forms.append(whole)
    return [form for form in forms if len(form) >= NGRAM]
