"""A document as the filters read it: its words and lines, each made once, when a rule first asks."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import NamedTuple

WORDS = re.compile(
    r"""
    \w++(?=\s)                  # most words, found soonest
    | (?:[A-Za-z]\.){2,}        # U.S.
    | \w+(?:(?:(?<=\d)[-/.,:]|[-/.,:](?=\d))\w+)*  # what a digit joins: 1,000 or 3/4 or FEB-1987
    | ['\u2019](?:[stdm]|re|ve|ll)\b
    | \.{2,}
    | -{2,}
    | [^\w\s]
    """,
    re.VERBOSE,
)
"""A word, or a sign of punctuation."""


def points(ranges: str) -> frozenset[str]:
    """The characters of ranges of code points, written as 21 2e 589-58a."""
    found = set[str]()
    for part in ranges.split():
        first, _, last = part.partition("-")
        found |= {chr(code) for code in range(int(first, 16), int(last or first, 16) + 1)}
    return frozenset(found)


TERMINAL = points(
    "21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 17d4-17d6"
    " 17d9-17da 1803 1809 1944-1945 1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1b7d-1b7e 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049"
    " 2e2e 2e3c 2e53-2e54 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb"
    " fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048 110be-110c1 11141-11143"
    " 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642"
    " 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5"
    " 16b37-16b38 16b44 16e98 1bc9f 1da88"
)
"""Signs that end a sentence, in all scripts: Unicode's Sentence_Terminal, with three of Khmer."""
PUNCTUATION = TERMINAL | points(
    "0-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 3008-300d 3010-3011"
    " ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"
)
"""Signs of which no word consists."""


def _sentence_end(signs: str) -> re.Pattern[str]:
    """What stands between two sentences. A full stop after a single capital is an initial's, and two or more end no
    sentence. All parts are bounded, so that time grows with the text alone."""
    end = f"[{re.escape(signs)}]"
    initial = rf"(?:(?<![A-Z]{end})|(?<=[A-Z]{{2}}{end}))"
    return re.compile(rf"{end}(?<!{end}{{2}})(?!(?<=\.)\.){initial}{end}*+[^\w\s]{{0,8}}+\s[\W_]{{0,16}}+(?=\w)")


SENTENCE_END, ASCII_SENTENCE_END = _sentence_end("".join(sorted(TERMINAL))), _sentence_end(".!?")


class Broken(NamedTuple):
    """A rule that a document breaks, and the value for which it does."""

    rule: str
    value: float


class Prose:
    """A document."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[str]:
        """Words and signs of punctuation."""
        return WORDS.findall(self.text)

    @cached_property
    def times(self) -> Counter[str]:
        """How often each word and sign occurs."""
        return Counter(self.words)


def sentences(text: str) -> int:
    """The number of sentences of a text, at least one."""
    return 1 + len((ASCII_SENTENCE_END if text.isascii() else SENTENCE_END).findall(text))


def repeated(parts: list[str]) -> tuple[int, int]:
    """How many parts an earlier one equals, and their characters."""
    different = set(parts)
    if len(different) == len(parts):
        return 0, 0
    return len(parts) - len(different), sum(map(len, parts)) - sum(map(len, different))
