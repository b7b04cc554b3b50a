"""Long text: the loss by position, and facts planted in generated text that a model is asked for.

The test is RULER's and the "needle in a haystack": one sentence states a number, the text around it states none, and
the last line begins that sentence again. Right is a model whose greedy answer is the number."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conf.stages.long_text import LongText
from jobs.evaluation.intervals import NORMAL_95, wilson
from jobs.evaluation.scoring import LOGITS_AT_ONCE
from jobs.huggingface.model import logits
from jobs.world.text import VALUES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FIRST_BIN = 64
"""Positions of the first bin of the loss; each further one is as long as all before it."""

CUE = "The number of {name} is"
FILLER = "{name} lives in {home}, is a {work}, eats {food} and plays the {music}."
NAMES = ("Abel", "Brina", "Cato", "Dalia", "Emric", "Fiora", "Gorin", "Hesta", "Ilvar", "Junia", "Kolm", "Lirae")


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    windows: NDArray[np.int64],
    config: LongText,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """For long.json: `losses` by position of `windows` [n, longest + 1] in nats per token, and `found`, the share of
    facts that are answered at each length and depth; both with 95% intervals and n."""
    losses = np.stack([_losses(model, window) for window in _told(windows, progress)])
    found = []
    for length in sorted(config.lengths):
        for depth in sorted(config.depths):
            right = 0
            for number in range(config.facts):
                right += answered(model, *prompt(tokenizer, config, length, depth, number))
                progress(1)
            share = {"right": right, "n": config.facts, "ci95": wilson(right, config.facts)}
            found.append({"length": length, "depth": depth} | share)
    return {"losses": by_position(losses), "found": found}


def count(config: LongText, windows: int) -> int:
    """How many sequences `measure` reads."""
    return windows + config.facts * len(config.lengths) * len(config.depths)


def by_position(losses: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The mean loss in bins of positions, of `losses` [n, length]; intervals over the n sequences."""
    number, length = losses.shape
    edges = [0]
    while edges[-1] < length:
        edges.append(min(length, max(FIRST_BIN, 2 * edges[-1])))
    rows = []
    for start, end in pairwise(edges):
        means = losses[:, start:end].mean(axis=1)
        half = NORMAL_95 * float(means.std(ddof=1)) / math.sqrt(number) if number > 1 else None
        mean = float(means.mean())
        interval = None if half is None else [mean - half, mean + half]
        rows.append({"start": start, "end": end, "loss": mean, "ci95": interval, "n": number})
    return rows


def prompt(
    tokenizer: PreTrainedTokenizerFast, config: LongText, length: int, depth: float, number: int
) -> tuple[list[int], list[int]]:
    """The tokens of a text with one fact that ends with its question, and those of the answer, `length` of them
    together or a sentence less. Raises ValueError where the fact alone is longer."""
    drawn = np.random.default_rng([config.seed, length, round(depth * 1e6), number])
    name, fact = f"{drawn.choice(NAMES)} {drawn.integers(100, 1000)}", str(drawn.integers(10_000, 100_000))
    cue = _ids(tokenizer, CUE.format(name=name))
    stated = _ids(tokenizer, f"{CUE.format(name=name)} {fact}")
    same = next((place for place, (one, other) in enumerate(zip(cue, stated, strict=False)) if one != other), len(cue))
    planted, start = _ids(tokenizer, f" {CUE.format(name=name)} {fact}."), _start(tokenizer)
    line = _ids(tokenizer, "\n")
    room = length - len(start) - len(planted) - len(line) - len(stated)
    if room < 0:
        raise ValueError(
            f"evaluate.long_text.lengths has {length}, but a fact and its question take {length - room} tokens of this"
            " tokenizer; choose longer texts"
        )
    sentences = _filler(tokenizer, drawn, room)
    place = round(depth * len(sentences))
    text = [token for sentence in [*sentences[:place], planted, *sentences[place:]] for token in sentence]
    return start + text + line + stated[:same], stated[same:]


@torch.inference_mode()
def answered(model: PreTrainedModel, text: list[int], answer: list[int]) -> bool:
    """Whether greedy decoding after `text` gives `answer`: each of its tokens is the likeliest after those before."""
    tokens = torch.tensor([text + answer], device=model.device)
    hidden = model.model(tokens[:, :-1], use_cache=False).last_hidden_state[0, len(text) - 1 :]
    return bool((logits(model, hidden).argmax(-1) == tokens[0, len(text) :]).all())


@torch.inference_mode()
def _losses(model: PreTrainedModel, window: NDArray[np.int64]) -> NDArray[np.float64]:
    """The loss of each target of one sequence."""
    tokens = torch.from_numpy(window)[None].to(model.device)
    hidden = model.model(tokens[:, :-1], use_cache=False).last_hidden_state[0]
    size = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    parts = zip(hidden.split(size), tokens[0, 1:].split(size), strict=True)
    found = [torch.nn.functional.cross_entropy(logits(model, h).float(), t, reduction="none") for h, t in parts]
    losses: NDArray[np.float64] = torch.cat(found).double().cpu().numpy()
    return losses


def _filler(tokenizer: PreTrainedTokenizerFast, drawn: np.random.Generator, room: int) -> list[list[int]]:
    """Sentences without a number, as many as fit into `room` tokens."""
    sentences: list[list[int]] = []
    while True:
        words = {kind: drawn.choice(VALUES[kind]) for kind in ("home", "work", "food", "music")}
        sentence = _ids(tokenizer, " " + FILLER.format(name=drawn.choice(NAMES), **words))
        room -= len(sentence)
        if room < 0:
            return sentences
        sentences.append(sentence)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _start(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The token that begins every text, where the tokenizer adds one."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer.encode("")[:1] == [bos] else []


def _told(windows: NDArray[np.int64], progress: Callable[[int], None]) -> Any:
    for window in windows:
        yield window
        progress(1)
