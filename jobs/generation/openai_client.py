"""Answers from an OpenAI-compatible server: many requests at once, each retried when the server is busy, unreachable or
answers nonsense."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import requests

from conf.stages.generate import GenerateConfig
from jobs.generation.answers import Answer, Message

BUSY = (408, 409, 425, 429)
"""Status codes of a server that may do better later; any 5xx counts too."""
LONGEST_WAIT = 60.0


class Retryable(Exception):
    """Worth another try after at least `after` seconds; the message says what happened."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


def answer_there(config: GenerateConfig, prompts: dict[int, list[Message]]) -> Iterator[list[Answer]]:
    """The server's answers to numbered prompts as they arrive. Raises ValueError where it refuses or stays
    unreachable."""
    headers = _headers(config)
    waiting = [(number, sample) for number in prompts for sample in range(config.samples)]
    with ThreadPoolExecutor(config.concurrency) as pool, requests.Session() as session:
        running: set[Future[Answer]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < config.concurrency:
                    number, sample = waiting.pop(0)
                    running.add(pool.submit(_ask, session, config, headers, prompts[number], number, sample))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield [future.result() for future in done]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _headers(config: GenerateConfig) -> dict[str, str]:
    """The key is read here and stored nowhere else."""
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ValueError(
            f"generate.api_key_env names {config.api_key_env}, which is not set; set it in this environment"
        )
    return {"Authorization": f"Bearer {key}"}


def _ask(
    session: requests.Session,
    config: GenerateConfig,
    headers: dict[str, str],
    messages: list[Message],
    number: int,
    sample: int,
) -> Answer:
    body: dict[str, Any] = {
        "model": config.endpoint_model,
        "messages": [{"role": message["role"], "content": message["content"]} for message in messages],
        "max_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": config.seed * 1_000_003 + number * config.samples + sample,
    } | ({"stop": list(config.stop)} if config.stop else {})
    url = f"{str(config.endpoint).rstrip('/')}/chat/completions"
    for attempt in range(config.retries + 1):
        try:
            text, finished, tokens = _choice(post(session, url, body, headers, config.timeout_seconds))
            return Answer(prompt=number, sample=sample, text=text, finished=finished, tokens=tokens)
        except Retryable as error:
            if attempt == config.retries:
                raise ValueError(
                    f"generate.endpoint {url} failed {attempt + 1} times ({error}); check the server or lower"
                    " generate.concurrency, then run the same command again to continue"
                ) from error
            time.sleep(min(max(config.retry_seconds * 2**attempt, error.after), LONGEST_WAIT))
    raise AssertionError("the loop returns or raises")


def post(
    session: requests.Session,
    url: str,
    body: dict[str, Any],
    headers: dict[str, str],
    seconds: float,
    setting: str = "generate.endpoint",
) -> Any:
    """The server's JSON. Raises Retryable where it may do better later, and ValueError where it refuses; `setting`
    names the address."""
    try:
        response = session.post(url, json=body, headers=headers, timeout=seconds)
    except requests.Timeout as error:
        raise Retryable(f"no answer within {seconds:g} s") from error
    except requests.ConnectionError as error:
        raise Retryable(f"no connection ({type(error).__name__})") from error
    if response.status_code in BUSY or response.status_code >= 500:
        retry_after = response.headers.get("Retry-After", "")
        raise Retryable(
            f"status {response.status_code}: {brief(response.text)}",
            float(retry_after) if retry_after.isdecimal() else 0.0,
        )
    if response.status_code != 200:
        raise ValueError(
            f"{setting} {url} refuses with status {response.status_code}: {brief(response.text)}; "
            f"check {setting}, the model's name there and the key"
        )
    try:
        return response.json()
    except ValueError as error:
        raise Retryable(f"the response is not JSON: {brief(response.text)}") from error


def _choice(answer: Any) -> tuple[str, bool, int]:
    """Text, whether the model ended it, and its tokens, from a chat completion."""
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice["finish_reason"]
        tokens = int((answer.get("usage") or {}).get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Retryable(f"the JSON is not a chat completion: {brief(str(answer))}") from error
    return text.strip() if isinstance(text, str) else "", reason == "stop", tokens


def brief(text: str) -> str:
    """The beginning of a message, on one line."""
    return " ".join(text.split())[:120]
