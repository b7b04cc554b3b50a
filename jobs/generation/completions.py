"""Completions of an OpenAI-compatible server for prompts that are token ids: many requests at once, each tried again
where the server is busy or away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Self, TypeVar

import requests
from requests.adapters import HTTPAdapter

from conf.engines import completions
from conf.engines.asked import AnsweredBy
from conf.engines.completions import Wanted, Written
from jobs.generation.openai_client import LONGEST_WAIT, Retryable, brief, post
from jobs.runtime import interrupt

SETTING = "evaluate.engine"
CONCURRENCY, TIMEOUT, RETRIES = 16, 600.0, 5
"""Where the recipe does not say."""
PATIENCE = 10.0
"""Seconds for a question about the server."""
LOOK = 1.0
"""Seconds of waiting for an answer between looks at whether the job is to stop."""
WAIT = 1.0
"""Seconds before the first retry; doubled each time."""
Read = TypeVar("Read")


class Server:
    """A context manager. Raises ValueError where the server is away, serves another model or another engine's version,
    or has no room for `longest` tokens of a prompt with its answer."""

    def __init__(self, by: AnsweredBy, longest: int) -> None:
        self.by, self.longest = by, longest
        self.concurrency = by.concurrency or CONCURRENCY
        self.seconds = by.timeout_seconds or TIMEOUT
        self.retries = RETRIES if by.retries is None else by.retries
        base = str(by.endpoint).rstrip("/").removesuffix("/completions")
        self.url = base if "/" in base.partition("://")[2] else f"{base}/v1"
        self.headers = self._headers()

    def __enter__(self) -> Self:
        self._check()
        self.pool, self.session = ThreadPoolExecutor(self.concurrency), requests.Session()
        adapter = HTTPAdapter(pool_maxsize=self.concurrency)  # a connection for each, kept between requests
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.session.close()

    def facts(self) -> dict[str, Any]:
        """What answered, as far as it tells."""
        return {"engine": self.by.version, "model": self.by.model, "kernels": []}

    def texts(self, prompts: Sequence[list[int]], seeds: Sequence[int], wanted: Wanted) -> list[Written]:
        """What follows each prompt."""

        def one(prompt: list[int], seed: int) -> Written:
            body = completions.text_body(str(self.by.model), self.by.version, prompt, wanted, seed)
            return self._ask(body, lambda answer: completions.read_text(answer, wanted))

        return self._all(one, prompts, seeds)

    def scores(self, prompts: Sequence[list[int]], last: Sequence[int]) -> list[float]:
        """The sum of the log probabilities, in nats, of the last tokens of each prompt."""

        def one(prompt: list[int], count: int) -> float:
            body = completions.score_body(str(self.by.model), prompt)
            return self._ask(body, lambda answer: completions.read_score(answer, len(prompt), count))

        return self._all(one, prompts, last)

    def _all(self, one: Callable[..., Read], *columns: Sequence[Any]) -> list[Read]:
        """The answers to all rows, in order; what keeps one from being answered is raised at once."""
        asked = [self.pool.submit(one, *row) for row in zip(*columns, strict=True)]
        waiting = set(asked)
        while waiting:
            done, waiting = wait(waiting, LOOK, FIRST_COMPLETED)
            interrupt.give_up_if_stopping()
            for each in done:
                each.result()
        return [each.result() for each in asked]

    def _headers(self) -> dict[str, str]:
        """The key is read here and stored nowhere else."""
        variable = self.by.api_key_env
        if variable is None:
            return {}
        if not os.environ.get(variable):
            raise ValueError(f"{SETTING}.api_key_env names {variable}, which is not set; set it in this environment")
        return {"Authorization": f"Bearer {os.environ[variable]}"}

    def _check(self) -> None:
        served = {str(card["id"]): card for card in self._get(f"{self.url}/models").get("data") or []}
        if self.by.model not in served:
            raise ValueError(
                f"{self.url} serves {', '.join(served) or 'no model'}, not {self.by.model}; serve the model under this"
                f" name, or change {SETTING}.model"
            )
        room = served[self.by.model].get("max_model_len")
        if room is not None and room < self.longest:
            raise ValueError(
                f"{self.url} takes {room} tokens of a prompt with its answer, but the questions need up to"
                f" {self.longest}; raise the server's limit, or lower max_new_tokens or shots"
            )
        found = self._get(f"{self.url.removesuffix('/v1')}/version", missing={}).get("version")
        if found and self.by.version and found not in self.by.version:
            raise ValueError(
                f"the answers are to be those of {self.by.version}, but {self.url} has version {found}; change"
                f" {SETTING}.version, or serve with that version"
            )

    def _get(self, url: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
        """A JSON object; `missing` where the server does not know the address."""
        try:
            response = requests.get(url, headers=self.headers, timeout=PATIENCE)
            value = response.json() if response.status_code == 200 else missing
        except requests.RequestException as error:
            raise ValueError(
                f"no server answers at {url} ({type(error).__name__}); start it, then run the same command again"
            ) from error
        if not isinstance(value, dict):
            raise ValueError(
                f"{url} refuses with status {response.status_code}: {brief(response.text)}; check {SETTING}.endpoint"
                " and the key"
            )
        return value

    def _ask(self, body: dict[str, Any], read: Callable[[Any], Read]) -> Read:
        for attempt in range(self.retries + 1):
            try:
                return self._read(body, read)
            except Retryable as error:
                if attempt == self.retries:
                    raise ValueError(
                        f"{self.url} failed {attempt + 1} times ({error}); check the server or lower"
                        f" {SETTING}.concurrency, then run the same command again to continue"
                    ) from error
                time.sleep(min(max(WAIT * 2**attempt, error.after), LONGEST_WAIT))
        raise AssertionError("the loop returns or raises")

    def _read(self, body: dict[str, Any], read: Callable[[Any], Read]) -> Read:
        url = f"{self.url}/completions"
        answer = post(self.session, url, body, self.headers, self.seconds, f"{SETTING}.endpoint")
        try:
            return read(answer)
        except (LookupError, TypeError, AttributeError) as error:
            raise Retryable(f"the JSON is not a completion: {brief(str(answer))}") from error
        except ValueError as error:
            raise ValueError(f"{self.url} {error}") from None
