"""C4's rules, which also take lines out of the documents that stay."""

from __future__ import annotations

import re

from conf.filters import C4
from jobs.curation.prose import Broken, sentences

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
ENDS = (".", "?", "!", '"', "'")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
NOTHING_LEFT = "nothing_left"
"""The rule of a document from which all lines are taken; no setting."""


def cleaned(text: str, rules: C4) -> tuple[str, list[Broken]]:
    """The lines of a document that stay, and the rules by which it is removed, in order."""
    kept, found, count = list[str](), dict[str, int](), 0
    for untrimmed in text.splitlines():
        if (line := _line(untrimmed.strip(), rules)) is None:
            continue
        small = line.lower()
        if rules.lorem_ipsum and "lorem ipsum" in small:
            found["lorem_ipsum"] = found.get("lorem_ipsum", 0) + 1
        elif rules.javascript and "javascript" in small:
            continue
        elif rules.curly_bracket and "{" in line:
            found["curly_bracket"] = found.get("curly_bracket", 0) + 1
        elif not (rules.policy and any(phrase in small for phrase in POLICY)):
            count += sentences(line) if rules.min_sentences is not None else 0
            kept.append(line)
    broken = [Broken(rule, times) for rule, times in found.items()]
    if rules.min_sentences is not None and count < rules.min_sentences:
        broken.append(Broken("min_sentences", count))
    left = "\n".join(kept).strip()
    if not left and not broken:
        broken.append(Broken(NOTHING_LEFT, 0))
    return left, broken


def _line(line: str, rules: C4) -> str | None:
    """A line without citations, None where its words or its end take it out."""
    words = line.split()
    if rules.max_word_characters is not None and max(map(len, words), default=0) > rules.max_word_characters:
        return None
    if rules.citations:
        line = CITATION.sub("", line)
    if rules.terminal_punctuation and (not line.endswith(ENDS) or line.endswith("...")):
        return None
    if rules.min_line_words is not None and len(words) < rules.min_line_words:
        return None
    return line
