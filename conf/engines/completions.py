"""Requests to OpenAI-compatible servers of completions, prompts being token ids, and what is read of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

TAKES_MORE = ("vLLM", "SGLang")
"""Servers that take token ids which end an answer (stop_token_ids) and PLAIN; others do as their own model says."""
PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Against what a model's generation_config.json would have the server do beyond the request."""
PROBE = (1, 2)
"""A prompt with which a server is asked whether it gives log probabilities of prompts."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A server's answer in text. `stop`: `end` (the model ended it), `stop` (a stop string) or `length`."""

    text: str
    stop: Literal["end", "stop", "length"]
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How texts are generated: at most so many tokens, up to any of the strings `stops` or of the ids `ends`."""

    max_tokens: int
    temperature: float
    stops: tuple[str, ...]
    ends: tuple[int, ...]


def text_body(model: str, version: str | None, prompt: Sequence[int], wanted: Wanted, seed: int) -> dict[str, Any]:
    """The request for one text."""
    body = {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": wanted.max_tokens,
        "temperature": wanted.temperature,
        "top_p": 1.0,
        "seed": seed,
    }
    more = PLAIN | {"stop_token_ids": list(wanted.ends)} if (version or "").startswith(TAKES_MORE) else {}
    return body | ({"stop": list(wanted.stops)} if wanted.stops else {}) | more


def score_body(model: str, prompt: Sequence[int]) -> dict[str, Any]:
    """The request for the log probabilities of a prompt's own tokens; a token more is generated and not read."""
    return {"model": model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}


def read_text(answer: Any, wanted: Wanted) -> Written:
    """The text of an answer. Raises LookupError, TypeError or AttributeError for JSON that is no completion, and
    ValueError for an answer that was cut or broken off."""
    choice = answer["choices"][0]
    text, reason = choice["text"], choice["finish_reason"]
    tokens = (answer.get("usage") or {}).get("completion_tokens")
    if tokens is None:
        raise ValueError(
            "does not say how many tokens an answer has (no usage), so that a cut one would not be noticed"
        )
    if reason not in ("stop", "length"):
        raise ValueError(f"broke an answer off (finish_reason {reason})")
    if reason == "length" and tokens < wanted.max_tokens:
        raise ValueError(f"cut an answer after {tokens} of {wanted.max_tokens} tokens; raise the server's limit")
    found = [place for stop in wanted.stops if (place := text.find(stop)) >= 0]
    if found:
        return Written(text=text[: min(found)], stop="stop", tokens=tokens)
    by_string = reason == "stop" and isinstance(choice.get("stop_reason"), str)
    return Written(text=text, stop="stop" if by_string else "end" if reason == "stop" else "length", tokens=tokens)


def read_score(answer: Any, length: int, last: int) -> float:
    """Sum of the log probabilities, in nats, of the last tokens of a prompt of `length` tokens. Raises as `read_text`
    does, ValueError where there are none."""
    told = answer["choices"][0].get("logprobs") or {}
    values = (told.get("token_logprobs") or [])[length - last : length]
    if len(values) < last or len(told["token_logprobs"]) < length or None in values:
        raise ValueError(
            "gives no log probabilities of a prompt's tokens (echo with logprobs), which benchmarks with choices need;"
            " leave them out, or set evaluate.engine to vllm"
        )
    return float(sum(values))
