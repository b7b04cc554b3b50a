"""Which generated answers are worth learning from: each is judged alone, then against those before it, and the reasons
for rejection are counted."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from conf.stages.generate import GenerateConfig
from jobs.generation.answers import Answer

WORDS, CHARACTERS = 4, 8
"""Length of the sequences whose repeats are counted: in words, or in characters where a text has few words."""
HASHES, BANDS = 128, 32
PRIME = np.uint64((1 << 31) - 1)


def fault(answer: Answer, config: GenerateConfig) -> str | None:
    """Why an answer alone is unusable; None where it is usable."""
    text = answer.text
    if answer.fault:
        return answer.fault
    if not text:
        return "empty"
    if not answer.finished:
        return "unfinished"
    if config.max_chars is not None and len(text) > config.max_chars:
        return "too long"
    if not _is_text(text):
        return "not text"
    return "repetitive" if repeated_share(text) > config.max_repeated_share else None


def _is_text(text: str) -> bool:
    """Letters or digits, no replacement characters, no control characters except white space."""
    return not any(map(_is_no_character, text)) and any(character.isalnum() for character in text)


def _is_no_character(character: str) -> bool:
    """What no text holds. Characters that Python's tables do not know are those of a later Unicode; noncharacters are
    the ones that no version will assign."""
    category, code = unicodedata.category(character), ord(character)
    if category == "Cn":
        return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return character == "\ufffd" or (category in ("Cc", "Cs", "Co") and not character.isspace())


def repeated_share(text: str) -> float:
    """Share of a text's sequences of words (of characters where it has few words) that occurred in it before."""
    words = text.split()
    units, size = (words, WORDS) if len(words) >= 3 * WORDS else (list(text), CHARACTERS)
    if len(units) < 3 * size:
        return 0.0
    sequences = [tuple(units[start : start + size]) for start in range(len(units) - size + 1)]
    return 1 - len(set(sequences)) / len(sequences)


class RepeatFilter:
    """The answers kept so far: prompt and answer repeat earlier ones exactly, or up to case and spacing."""

    def __init__(self, near: float | None) -> None:
        self._near = _NearDuplicates(near) if near is not None else None
        self._exact: set[tuple[str, str]] = set()
        self._normal: set[tuple[str, str]] = set()

    def repeats(self, prompt: str, answer: str) -> str | None:
        """Why an answer is a repeat; None where it is new, in which case it is remembered."""
        normal = normalised(prompt), normalised(answer)
        if (prompt, answer) in self._exact:
            return "exact repeat"
        if normal in self._normal:
            return "repeat up to case and spacing"
        if self._near is not None and self._near.repeats(normal[1]):
            return "near repeat of another answer"
        self._exact.add((prompt, answer))
        self._normal.add(normal)
        return None


def normalised(text: str) -> str:
    """The text without what leaves its words unchanged: case, spacing, compatibility forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class _NearDuplicates:
    """MinHash with banding (Broder, 1997; Leskovec et al., Mining of Massive Datasets, chapter 3) over sequences of
    three words."""

    def __init__(self, share: float) -> None:
        self.share = share
        generator = np.random.default_rng(0)
        self._factors = generator.integers(1, int(PRIME), HASHES, dtype=np.uint64)
        self._offsets = generator.integers(0, int(PRIME), HASHES, dtype=np.uint64)
        self._buckets: defaultdict[bytes, list[NDArray[np.uint64]]] = defaultdict(list)

    def repeats(self, text: str) -> bool:
        """Whether an earlier text's sketch agrees in at least `share` of its places; a new text is remembered, and a
        short one is never a repeat."""
        words = text.split()
        if len(words) < 2 * WORDS:
            return False
        pieces = {" ".join(words[start : start + 3]) for start in range(len(words) - 2)}
        hashes = [int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=4).digest(), "big") for piece in pieces]
        values = np.array(hashes, np.uint64)[:, None] % PRIME
        sketch = ((values * self._factors + self._offsets) % PRIME).min(axis=0)
        keys = [bytes([band]) + part.tobytes() for band, part in enumerate(sketch.reshape(BANDS, -1))]
        for key in keys:
            if any(float((sketch == other).mean()) >= self.share for other in self._buckets[key]):
                return True
        for key in keys:
            self._buckets[key].append(sketch)
        return False
