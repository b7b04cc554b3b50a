"""In which language a document is written, by the model that py3langid ships."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from conf.filters import UNSURE, Language
from jobs.curation.prose import Broken, Prose

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

PART = 1500
"""Characters of the start, the middle and the end that are looked at of a longer document."""

NO_LANGUAGE = "zxx"
EVEN = 0.02
"""The likeliest of 140 languages is no likelier than this where nothing in a text speaks for any."""


def broken(document: Prose, rules: Language) -> Iterator[Broken]:
    """The language of a document that is not one of those to keep, or that it is none of them surely; the value is the
    probability of those to keep together."""
    ranked = identifier().rank(_part(document.text))
    kept = sum(probability for language, probability in ranked if language in rules.keep)
    if kept < rules.min_probability:
        likeliest = str(ranked[0][0]) if ranked[0][1] > EVEN else NO_LANGUAGE
        yield Broken(UNSURE if likeliest in rules.keep else likeliest, kept)


@functools.cache
def identifier() -> LanguageIdentifier:
    """The model, read once a process (a second or more); its probabilities add up to 1."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _part(text: str) -> str:
    if len(text) <= 3 * PART:
        return text
    middle = (len(text) - PART) // 2
    return "\n".join((text[:PART], text[middle : middle + PART], text[-PART:]))
