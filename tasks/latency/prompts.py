"""Prompts of an exact number of tokens: pieces of a real text, none of which begins as another does."""

from __future__ import annotations

import pydoc_data.topics
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tasks.latency.client import Prompt
from tasks.latency.endpoint import Endpoint

SALT = 4
"""Random tokens at the start of each prompt, so that no cache has its prefix."""
SHORTEST = 2 * SALT
CHARACTERS = 100_000
"""Of a longer text, its beginning is used."""
TOKENIZED = 60.0
"""Seconds for the text's tokens."""
BUILT_IN = "the topics of Python's documentation"


@dataclass
class Prompts:
    """Draws prompts from a text's tokens; the same seed draws the same."""

    tokens: list[int]
    seed: int
    decode: Callable[[list[int]], str] | None = None

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._used: set[tuple[int, ...]] = set()
        self._words = sorted(set(self.tokens))

    def take(self, count: int, length: int, *, as_text: bool = False) -> list[Prompt]:
        """Prompts of `length` tokens, each beginning like no other that was ever taken. Raises ValueError if the text
        is too short."""
        if len(self.tokens) < length:
            raise ValueError(
                f"the text has {len(self.tokens):,} tokens, fewer than a prompt's {length:,}; name a longer"
                " one with --text"
            )
        return [self._prompt(length, as_text) for _ in range(count)]

    def _prompt(self, length: int, as_text: bool) -> Prompt:
        salt = self._salt()
        rest = length - SALT
        start = self._draw.randrange(len(self.tokens) - rest + 1)
        ids = [*salt, *self.tokens[start : start + rest]]
        return self.decode(ids) if as_text and self.decode else ids

    def _salt(self) -> tuple[int, ...]:
        for _ in range(100):
            salt = tuple(self._draw.choices(self._words, k=SALT))
            if salt not in self._used:
                self._used.add(salt)
                return salt
        raise ValueError(
            f"the text has only {len(self._words)} different tokens, too few for prompts that begin"
            " differently; name another with --text"
        )


def text_of(file: Path | None) -> str:
    """The beginning of a text file; without one, a text that every Python brings."""
    if file is None:
        return "\n".join(pydoc_data.topics.topics.values())[:CHARACTERS]
    try:
        text = file.read_text(encoding="utf-8", errors="replace")[:CHARACTERS]
    except OSError as error:
        raise ValueError(f"--text is {file}, which cannot be read ({error.strerror}); name a text file") from error
    if not text.strip():
        raise ValueError(f"--text is {file}, which is empty; name a text file")
    return text


def prompts_of(text: str, endpoint: Endpoint, tokenizer: Path | None, seed: int) -> Prompts:
    """Prompts from a text in the tokens of the served model: by a tokenizer's folder, else the model's own folder if
    it is on this machine, else the server."""
    folder = tokenizer or (Path(endpoint.folder) if endpoint.folder else None)
    if folder and (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        own = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return Prompts(own.encode(text, add_special_tokens=False).ids, seed, own.decode)
    if tokenizer:
        raise ValueError(f"--tokenizer is {tokenizer}, which has no tokenizer.json; name the model's folder")
    return Prompts(_tokenized_there(text, endpoint), seed)


def _tokenized_there(text: str, endpoint: Endpoint) -> list[int]:
    """Tokens by the server's /tokenize: vLLM and SGLang read `prompt`, llama.cpp `content`."""
    asked: dict[str, Any] = {"model": endpoint.model, "prompt": text, "content": text, "add_special_tokens": False}
    try:
        response = requests.post(f"{endpoint.root}/tokenize", json=asked, headers=endpoint.headers, timeout=TOKENIZED)
        ids = response.json()["tokens"]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
        raise ValueError(
            f"{endpoint.url} does not tokenize, and its model is not on this machine; name a folder with the model's"
            " tokenizer.json with --tokenizer"
        )
    return ids
