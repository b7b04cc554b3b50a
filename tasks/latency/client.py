"""One streamed completion, and when its tokens arrived by this process's monotonic clock."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tasks.latency.endpoint import Endpoint
from tasks.latency.events import Events

Prompt = list[int] | str
END = "[DONE]"


class Refused(ValueError):
    """The server answered a request with an error status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One answer. Times are seconds of the monotonic clock; `arrivals` has one for each piece that carried tokens.
    `cached`: tokens of the prompt that the server says it had in its cache; None where it does not say."""

    sent: float
    arrivals: tuple[float, ...]
    prompt_tokens: int
    tokens: int
    cached: int | None

    @property
    def first(self) -> float:
        """Seconds to the first token (TTFT)."""
        return self.arrivals[0] - self.sent

    @property
    def whole(self) -> float:
        """Seconds to the last token (end to end)."""
        return self.arrivals[-1] - self.sent

    @property
    def per_token(self) -> float | None:
        """Mean seconds per token after the first (TPOT); None for answers of one token."""
        return (self.whole - self.first) / (self.tokens - 1) if self.tokens > 1 else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces (ITL)."""
        return [after - before for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)]


@dataclass
class _Answer:
    """What the stream has said so far."""

    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    ended: bool = False

    def read(self, data: str, now: float, url: str) -> None:
        """Take in one event that arrived at `now`."""
        if data == END:
            self.ended = True
            return
        try:
            chunk = json.loads(data)
            if chunk.get("error"):
                raise ValueError(f"{url} broke an answer off: {brief(str(chunk['error']))}; see the server's log")
            choices, usage = chunk.get("choices") or [], chunk.get("usage") or {}
            text, reason = (choices[0].get("text"), choices[0].get("finish_reason")) if choices else (None, None)
            so_far = usage.get("completion_tokens")
        except (json.JSONDecodeError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(
                f"{url} does not stream completions: {brief(data)}; name an OpenAI-compatible one"
            ) from error
        self.ended |= reason is not None
        self.usage = usage or self.usage
        # A count on every piece also knows tokens without text (half a character); others are known by their text.
        new = so_far > self.tokens if choices and so_far is not None else bool(text)
        self.tokens = so_far if so_far is not None else self.tokens
        if new:
            self.arrivals.append(now)


async def ask(session: aiohttp.ClientSession, endpoint: Endpoint, prompt: Prompt, tokens: int) -> Timing:
    """Have one prompt answered with `tokens` tokens, if the server does as it is asked. Raises ValueError where it does
    not answer, refuses or breaks off."""
    answer, events = _Answer(), Events()
    sent = time.perf_counter()
    try:
        async with session.post(f"{endpoint.url}/completions", json=body(endpoint, prompt, tokens)) as response:
            if response.status != 200:
                refusal = _refusal(endpoint.url, response.status, await response.text())
                raise Refused(refusal, response.status)
            async for piece in response.content.iter_any():
                now = time.perf_counter()
                for data in events.feed(piece):
                    answer.read(data, now, endpoint.url)
    except TimeoutError as error:
        raise ValueError(
            f"{endpoint.url} did not go on answering within {session.timeout.sock_read:g} s; see the"
            " server's log, or raise --timeout"
        ) from error
    except aiohttp.ClientError as error:
        raise ValueError(
            f"{endpoint.url} went away in the middle ({type(error).__name__}: {brief(str(error))}); see"
            " the server's log, start it again and repeat the command"
        ) from error
    return _timing(answer, sent, endpoint.url)


def body(endpoint: Endpoint, prompt: Prompt, tokens: int) -> dict[str, Any]:
    """The request: greedy, of exactly `tokens` tokens, counted on every piece where the server can."""
    exact = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0.0}
    counted = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return {"model": endpoint.model, "prompt": prompt, **exact, **counted, **endpoint.extra}


def _timing(answer: _Answer, sent: float, url: str) -> Timing:
    if not answer.ended:
        raise ValueError(f"{url} closed the connection in the middle of an answer; see the server's log")
    tokens, prompt_tokens = answer.usage.get("completion_tokens"), answer.usage.get("prompt_tokens")
    if tokens is None or prompt_tokens is None:
        raise ValueError(
            f"{url} does not say how many tokens an answer has (no usage in its stream), so nothing can be"
            " computed per token; use a server that takes stream_options.include_usage"
        )
    if not answer.arrivals:
        raise ValueError(f"{url} answers without any token; check the model with imbik chat")
    details = answer.usage.get("prompt_tokens_details") or {}
    return Timing(
        sent=sent,
        arrivals=tuple(answer.arrivals),
        prompt_tokens=int(prompt_tokens),
        tokens=int(tokens),
        cached=details.get("cached_tokens"),
    )


def _refusal(url: str, status: int, text: str) -> str:
    if status == 404:
        return (
            f"{url}/completions does not exist (status 404): prompts are sent as tokens, which chat completions"
            " cannot take; name a server of completions"
        )
    if status == 429:
        return f"{url} refuses so many requests at once (status 429: {brief(text)}); lower --concurrency"
    return f"{url} refuses with status {status}: {brief(text)}"


def brief(text: str) -> str:
    """The beginning of a message, on one line."""
    return " ".join(text.split())[:160]
