"""lm-eval's Hugging Face model, made fast for short answers: logits only where an answer is scored, each text encoded
once.

Requests, their tokens, their order and the meaning of a score are lm-eval's."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from jobs.huggingface.model import logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Tokens = tuple[int, ...]
Request = tuple[tuple[str, str], list[int], list[int]]
"""The two texts, the tokens of the context, the tokens of the continuation."""
Answer = tuple[float, bool]
"""Log probability in nats, and whether greedy decoding would produce it."""

MIN_RUN = 8
"""Fewer inputs with a common beginning are not worth a batch of their own."""


class LastTokenLM(HFLM):
    """Scores (context, continuation) requests; `truncated` counts contexts cut from the left to fit the model, and
    `progress` is called with the number of contexts just scored."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch: int, progress: Callable[[int], None]
    ) -> None:
        longest = model.config.max_position_embeddings
        super().__init__(model, tokenizer=tokenizer, batch_size=batch, max_length=longest, softmax_dtype=torch.float32)
        self.progress = progress
        self.truncated = 0
        self.encode_once = functools.lru_cache(maxsize=16)(super().tok_encode)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: object
    ) -> list[int]:
        """As lm-eval's, but the last few texts are cached, since the four requests of a question share their
        context."""
        return self.encode_once(string, add_special_tokens, left_truncate_len)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        """One forward pass for all requests that differ only in their last token; common prefixes are computed once."""
        sharing: dict[Tokens, list[int]] = {}
        for position, (_, context, continuation) in enumerate(requests):
            input_tokens = (*context, *continuation[:-1])[-self.max_length :]  # cut from the left, as lm-eval does
            sharing.setdefault(input_tokens, []).append(position)
        self.truncated = len(
            {tuple(context) for _, context, answer in requests if len(context) + len(answer) - 1 > self.max_length}
        )
        tail = max(len(continuation) for _, _, continuation in requests)
        answers: list[Answer] = [(0.0, False)] * len(requests)
        answered: set[Tokens] = set()
        for inputs, prefix in _runs(list(sharing), tail):
            cache = self._prefix_cache(inputs[0][:prefix]) if prefix else None
            for start in range(0, len(inputs), self.batch_size):
                chunk = inputs[start : start + self.batch_size]
                for tokens, logprobs in zip(chunk, self._tail_logprobs(chunk, tail, prefix, cache), strict=True):
                    for position in sharing[tokens]:
                        answers[position] = _score(logprobs, requests[position][2])
                num_before = len(answered)
                answered |= {tuple(requests[position][1]) for tokens in chunk for position in sharing[tokens]}
                self.progress(len(answered) - num_before)
        return answers

    @torch.inference_mode()
    def _prefix_cache(self, prefix: Tokens) -> DynamicCache:
        """Keys and values of the tokens that begin all inputs of a run."""
        cache = DynamicCache(config=self.model.config)
        self.model.model(torch.tensor([prefix], device=self.device), past_key_values=cache)
        return cache

    @torch.inference_mode()
    def _tail_logprobs(self, inputs: list[Tokens], tail: int, prefix: int, cache: DynamicCache | None) -> torch.Tensor:
        """Log probabilities after each of the last `tail` tokens of each input, shape [len(inputs), tail, vocabulary],
        on the CPU.

        The first `prefix` tokens are in `cache`."""
        suffixes = [torch.tensor(tokens[prefix:]) for tokens in inputs]
        tokens = torch.nn.utils.rnn.pad_sequence(suffixes, batch_first=True).to(
            self.device
        )  # right padding, which causal attention never sees
        if cache is not None:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(inputs))
        hidden = self.model.model(tokens, past_key_values=cache, use_cache=cache is not None).last_hidden_state
        ends = torch.tensor([len(suffix) for suffix in suffixes], device=self.device)[:, None]
        tail_positions = (ends - torch.arange(tail, 0, -1, device=self.device)).clamp(min=0)
        ends = hidden[torch.arange(len(suffixes), device=self.device)[:, None], tail_positions]
        return torch.log_softmax(logits(self.model, ends), dim=-1, dtype=self.softmax_dtype).cpu()


class EngineLM(HFLM):
    """Encodes requests as lm-eval's Hugging Face model does, and lets `score` give the log probabilities: of each input
    those of its last so many tokens, in nats. Whether greedy decoding would produce them is not known.

    Inputs have at most `longest` tokens: the others are cut from the left, and `truncated` counts their contexts."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        score: Callable[[Sequence[list[int]], Sequence[int]], list[float]],
        longest: int = sys.maxsize,
    ) -> None:
        TemplateLM.__init__(self)
        self.tokenizer, self.score, self.longest, self.truncated = tokenizer, score, longest, 0
        self.custom_prefix_token_id = None
        self.add_bos_token = self.enable_thinking = None
        self.encode_once = functools.lru_cache(maxsize=16)(super().tok_encode)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: object
    ) -> list[int]:
        """As lm-eval's, the last few texts cached."""
        return self.encode_once(string, add_special_tokens, left_truncate_len)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        self.truncated = len(
            {tuple(context) for _, context, answer in requests if len(context) + len(answer) > self.longest}
        )
        inputs = [[*context, *continuation][-self.longest :] for _, context, continuation in requests]
        return [(logprob, False) for logprob in self.score(inputs, [len(answer) for _, _, answer in requests])]


def _runs(inputs: list[Tokens], tail: int) -> Iterator[tuple[list[Tokens], int]]:
    """Inputs longest first, in runs with a common prefix (its length given) where that saves at least half the work;
    the others last.

    Worked examples make up most of a few-shot prompt and are the same for a whole subject."""
    leftovers: list[Tokens] = []
    run: list[Tokens] = []
    shared = longest = 0
    for tokens in [*sorted(inputs), ()]:
        common = min(_common(run[0], tokens, shared), len(tokens) - tail) if run else 0
        if run and tokens and 2 * common >= max(longest, len(tokens)):
            run.append(tokens)
            shared, longest = common, max(longest, len(tokens))
            continue
        if len(run) >= MIN_RUN:
            yield sorted(run, key=len, reverse=True), shared
        else:
            leftovers += run
        run, shared, longest = [tokens], len(tokens) - tail, len(tokens)
    if leftovers:
        yield sorted(leftovers, key=len, reverse=True), 0


def _common(one: Tokens, other: Tokens, limit: int) -> int:
    """Length of the common prefix, at most `limit`."""
    for position in range(min(limit, len(one), len(other))):
        if one[position] != other[position]:
            return position
    return min(limit, len(one), len(other))


def _score(logprobs: torch.Tensor, continuation: list[int]) -> Answer:
    """The continuation's log probability given `logprobs` [at least its length, vocabulary], whose last row predicts
    its last token."""
    rows = logprobs[-len(continuation) :]
    chosen = torch.tensor(continuation)
    return float(rows[torch.arange(len(chosen)), chosen].sum()), bool((rows.argmax(-1) == chosen).all())
