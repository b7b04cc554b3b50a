"""lm-eval's Hugging Face model, made fast for short answers: logits only where an answer is scored, each text encoded once.

Requests, their tokens, their order and what a score means are lm-eval's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from lm_eval.models.huggingface import HFLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Request = tuple[tuple[str, str], list[int], list[int]]
"""The two texts, the tokens of the context, the tokens of the continuation."""
Answer = tuple[float, bool]
"""Log probability in nats, and whether greedy decoding would give it."""


class LastTokenLM(HFLM):
    """Scores (context, continuation) requests; `truncated` counts contexts cut from the left to fit the model, `progress` is
    told how many more contexts have been seen."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch: int, progress: Callable[[int], None]) -> None:
        longest = model.config.max_position_embeddings
        super().__init__(model, tokenizer=tokenizer, batch_size=batch, max_length=longest, softmax_dtype=torch.float32)
        self.progress = progress
        self.truncated = 0
        self.encode_once = functools.lru_cache(maxsize=16)(super().tok_encode)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: object
    ) -> list[int]:
        """As lm-eval's; the four requests of a question share their context, so the last few are remembered."""
        return self.encode_once(string, add_special_tokens, left_truncate_len)

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None) -> list[Answer]:
        """One forward pass for all requests that share everything but their last token, longest first."""
        sharing: dict[tuple[int, ...], list[int]] = {}
        for position, (_, context, continuation) in enumerate(requests):
            sharing.setdefault((*context, *continuation[:-1]), []).append(position)
        self.truncated = len({tuple(context) for _, context, answer in requests if len(context) + len(answer) - 1 > self.max_length})
        asked: set[tuple[int, ...]] = set()
        answers: list[Answer] = [(0.0, False)] * len(requests)
        inputs = sorted(sharing, key=len, reverse=True)
        for start in range(0, len(inputs), self.batch_size):
            chunk = inputs[start : start + self.batch_size]
            tail = max(len(requests[position][2]) for tokens in chunk for position in sharing[tokens])
            for tokens, logprobs in zip(chunk, self._tail(chunk, tail), strict=True):
                for position in sharing[tokens]:
                    answers[position] = _score(logprobs, requests[position][2])
            before = len(asked)
            asked |= {tuple(requests[position][1]) for tokens in chunk for position in sharing[tokens]}
            self.progress(len(asked) - before)
        return answers

    @torch.inference_mode()
    def _tail(self, inputs: list[tuple[int, ...]], tail: int) -> torch.Tensor:
        """Log probabilities after each of the last `tail` tokens of each input, shape [len(inputs), tail, vocabulary], on the CPU."""
        kept = [torch.tensor(tokens[-self.max_length :]) for tokens in inputs]
        tokens = torch.nn.utils.rnn.pad_sequence(kept, batch_first=True).to(self.device)  # right padding: causal, so never seen
        hidden = self.model.model(tokens, use_cache=False).last_hidden_state
        ends = torch.tensor([len(one) for one in kept], device=self.device)[:, None]
        wanted = (ends - torch.arange(tail, 0, -1, device=self.device)).clamp(min=0)
        logits = self.model.lm_head(hidden[torch.arange(len(kept), device=self.device)[:, None], wanted])
        return torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype).cpu()


def _score(logprobs: torch.Tensor, continuation: list[int]) -> Answer:
    """The continuation's log probability given `logprobs` [at least its length, vocabulary], whose last row predicts its last token."""
    rows = logprobs[-len(continuation) :]
    chosen = torch.tensor(continuation)
    return float(rows[torch.arange(len(chosen)), chosen].sum()), bool((rows.argmax(-1) == chosen).all())
