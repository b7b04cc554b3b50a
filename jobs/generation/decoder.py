"""A model's continuations of many prompts, some rows at a time: a row that ends takes the next prompt, a beginning that
all prompts share is computed once, and so is a prompt with several samples.

Greedy tokens are those that transformers' `generate` makes of each prompt alone, but for rounding. Drawn ones depend on
the seed, the prompt's number and the sample's, and neither on other rows nor on what was done before."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from transformers import Cache, DynamicCache

from jobs.generation.blocks import Blocks, attended
from jobs.generation.lean import Lean
from jobs.huggingface.model import logits
from jobs.runtime import interrupt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MIN_SHARED = 16
"""Fewer common first tokens than this are not worth a forward pass of their own."""
FILL_SHARE = 8
"""Rows are filled once this part of them is free: prompts are then read together, and few rows wait."""
MIN_LENGTH = 0.75
"""Shorter prompts than this part of the longest are read apart from it."""
READ = {"cpu": 1024}
"""Tokens of prompts that are read together, by the kind of device: more leave a processor's cache between operations
(a fifth more time each), where a GPU has more to do at once."""
READ_ELSEWHERE = 16384
SPECIAL = 8
"""Tokens without text that may stand inside a stop string, of which every other token has a byte at least."""
WAVE = 4
"""Batches whose prompts are given to a decoder together. A killed job makes the wave again that it was at: with 4, one
takes twice as long as the longest answer, and 94% of the rows' steps make a token on the answer lengths of GSM8K, where
47% do in batches of 16 that wait for their longest."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen, the likeliest one at temperature 0, and where a continuation ends: with one of `ends`, or
    where `stopped` says so of its tokens so far, or with the last of `max_new_tokens`."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 1
    ends: frozenset[int] = frozenset()
    stopped: Callable[[list[int]], bool] | None = None


def stopping(tokenizer: PreTrainedTokenizerFast, strings: Sequence[str]) -> Callable[[list[int]], bool] | None:
    """Whether the text of some tokens, of which the last is new, has one of `strings` near its end; None without
    strings."""
    tail = max((len(string.encode()) for string in strings), default=0) + SPECIAL
    decode = tokenizer.backend_tokenizer.decode
    last = {string[-1:] for string in strings}

    @functools.cache
    def may_complete(token: int) -> bool:
        """Whether a string can end with this token. Alone, some lose a space, and some are a part of a character."""
        text = decode([token], skip_special_tokens=True)
        unclear = not text.strip() or "\N{REPLACEMENT CHARACTER}" in text
        return unclear or any(one in text or one.isspace() for one in last)

    def stopped(ids: list[int]) -> bool:
        if not may_complete(ids[-1]):
            return False
        text = decode(ids[-tail:], skip_special_tokens=True)
        return any(string in text for string in strings)

    return stopped if strings else None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One continuation of the tokens of a prompt."""

    prompt: tuple[int, ...]
    number: int
    sample: int = 0


@dataclass
class _Row:
    request: Request
    chance: random.Random
    made: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt's, and those made so far."""
        return self.request.prompt + tuple(self.made)

    @property
    def length(self) -> int:
        """Tokens whose keys and values are in the cache: all but the last made."""
        return len(self.request.prompt) + len(self.made) - 1


class Decoder:
    """At most `width` rows of a model's continuations."""

    def __init__(self, model: PreTrainedModel, width: int, sampling: Sampling) -> None:
        self.model, self.width, self.sampling = model, width, sampling
        self.lean = Lean(model) if Lean.fits(model) else None
        self.rows: list[_Row] = []
        self.prefix: tuple[int, ...] = ()
        self.prefix_cache: Cache | None = None

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> Iterator[tuple[Request, list[int]]]:
        """Each continuation's tokens, with the one that ended it, as they end. Requests begin in their order."""
        seed, switch = self.sampling.seed, _switch(self.model)
        rows = [_Row(one, random.Random(f"{seed}:{one.number}:{one.sample}")) for one in requests]
        later = [row for row in rows if len(row.tokens) > switch]
        self.prefix, self.prefix_cache = (), None
        if now := [row for row in rows if len(row.tokens) <= switch]:
            self._share([row.tokens for row in now])
            yield from self._run(now, switch, later)
        self.prefix, self.prefix_cache = (), None  # its frequencies are those of short sequences
        yield from self._run(later, math.inf, [])

    def _run(self, waiting: list[_Row], switch: float, later: list[_Row]) -> Iterator[tuple[Request, list[int]]]:
        """Make the rows `waiting`; those that become longer than `switch` are put off to `later`."""
        queue, self.rows = list(reversed(waiting)), []
        self.blocks = Blocks(self.model, self.prefix_cache, len(self.prefix))
        while queue or self.rows:
            interrupt.give_up_if_stopping()
            free = self.width - len(self.rows)
            if queue and free * FILL_SHARE >= self.width:
                taken = [queue.pop() for _ in range(min(free, len(queue)))]
                for group in _alike(taken, len(self.prefix), READ.get(self.model.device.type, READ_ELSEWHERE)):
                    yield from self._begin(group)
            else:
                yield from self._step()
            later += [row for row in self.rows if row.length >= switch]
            self._keep([number for number, row in enumerate(self.rows) if row.length < switch])

    def _share(self, prompts: list[tuple[int, ...]]) -> None:
        """Compute what all prompts begin with; each keeps at least one token of its own."""
        low, high = min(prompts), max(prompts)
        most = min(map(len, prompts)) - 1
        common = next((n for n in range(most) if low[n] != high[n]), most)
        if common >= MIN_SHARED and low != high:
            self.prefix, self.prefix_cache = low[:common], DynamicCache()
            self.model.model(self._tensor([self.prefix]), past_key_values=self.prefix_cache)

    def _begin(self, taken: list[_Row]) -> Iterator[tuple[Request, list[int]]]:
        """Read the tokens of `taken` into free rows, and choose the next token of each."""
        prompts = list(dict.fromkeys(row.tokens for row in taken))
        read, last = self._read(prompts)
        sources = [prompts.index(row.tokens) for row in taken]
        self.blocks.put(read, sources, [len(row.tokens) for row in taken])
        self.rows += taken
        yield from self._choose(taken, last[sources])

    def _read(self, prompts: list[tuple[int, ...]]) -> tuple[Cache, torch.Tensor]:
        """Keys and values of `prompts` from column 0, and the logits after each, [prompts, vocabulary]. Shorter ones
        are padded on the right, which nothing before it sees."""
        cache, start = DynamicCache(), len(self.prefix)
        for number, layer in enumerate(self.prefix_cache.layers if self.prefix_cache else ()):
            cache.update(*(states.expand(len(prompts), -1, -1, -1) for states in (layer.keys, layer.values)), number)
        width = max(map(len, prompts)) - start
        tokens = self._tensor([prompt[start:] + (0,) * (width + start - len(prompt)) for prompt in prompts])
        ends = self._tensor([len(prompt) - start - 1 for prompt in prompts])
        if self.lean:
            return cache, logits(self.model, self.lean.read(tokens, cache, ends))
        hidden = self.model.model(tokens, past_key_values=cache).last_hidden_state
        return cache, logits(self.model, hidden[torch.arange(len(prompts), device=hidden.device), ends])

    def _step(self) -> Iterator[tuple[Request, list[int]]]:
        """One more token of each row."""
        at = self.blocks.step([row.length for row in self.rows])
        tokens = self._tensor([row.made[-1] for row in self.rows])
        hidden = self.lean(tokens, at, self.blocks) if self.lean else attended(self.model, tokens, at, self.blocks)
        yield from self._choose(self.rows, logits(self.model, hidden))

    def _choose(self, rows: list[_Row], last: torch.Tensor) -> Iterator[tuple[Request, list[int]]]:
        """The next token of `rows`, the last ones, by the logits [rows, vocabulary] after them; ends those that are
        done."""
        tokens = self._drawn(last.float(), rows) if self.sampling.temperature else last.argmax(-1)
        left = list(range(len(self.rows) - len(rows)))
        for number, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True), start=len(left)):
            row.made.append(token)
            limit = len(row.made) == self.sampling.max_new_tokens
            if limit or token in self.sampling.ends or (self.sampling.stopped and self.sampling.stopped(row.made)):
                yield row.request, row.made
            else:
                left.append(number)
        self._keep(left)

    def _keep(self, left: list[int]) -> None:
        """Only the rows of these numbers."""
        if len(left) < len(self.rows):
            self.blocks.keep(left)
            self.rows = [self.rows[number] for number in left]

    def _drawn(self, last: torch.Tensor, rows: list[_Row]) -> torch.Tensor:
        """Where each row's own number falls among the likeliest tokens that together have `top_p`."""
        shares = torch.softmax(last / self.sampling.temperature, -1).double()
        shares, order = shares.sort(dim=-1, descending=True, stable=True)
        before = shares.cumsum(-1) - shares
        shares[before >= self.sampling.top_p] = 0
        sums = shares.cumsum(-1)
        chances = torch.tensor([[row.chance.random()] for row in rows], dtype=sums.dtype, device=sums.device)
        return order.gather(-1, torch.searchsorted(sums, chances * sums[:, -1:], right=True))[:, 0]

    def _tensor(self, numbers: Sequence[object]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.model.device)


def _alike(rows: list[_Row], prefix: int, most: int) -> Iterator[list[_Row]]:
    """The rows, those after another together of which no prompt is shorter, after the prefix, than MIN_LENGTH of the
    longest, and whose prompts have at most `most` tokens, padded, or are one."""
    group: list[_Row] = []
    longest = prompts = 0
    for row in sorted(rows, key=lambda row: -len(row.tokens)):
        own, another = len(row.tokens) - prefix, not group or row.tokens != group[-1].tokens
        if group and another and (own < MIN_LENGTH * longest or (prompts + 1) * longest > most):
            yield group
            group, prompts = [], 0
        longest = longest if group else own
        group.append(row)
        prompts += another
    yield group


def _switch(model: PreTrainedModel) -> float:
    """The longest sequence whose keys stay as they are. With longrope, a longer one has all of them computed anew, with
    other frequencies, and a batch has those of its longest sequence: transformers' Phi-3 does the same."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    longest = rope.get("original_max_position_embeddings") or model.config.max_position_embeddings
    return float(longest) if rope.get("rope_type") == "longrope" else math.inf
