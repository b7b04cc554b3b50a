"""Pages read by a model that sees images, behind an OpenAI-compatible endpoint. Runs in a worker process only.

What the server says is in no message: it may repeat the key or the page."""

from __future__ import annotations

import base64
import itertools
from time import monotonic, sleep
from typing import Any

import requests

from conf.ocr import Ocr
from jobs.corpus.extract.ocr import Failed, Picture, Unavailable, key_of

BUSY = (408, 409, 425, 429)
"""Status codes of a server that may do better later; any 5xx counts too."""
ABOUT_THE_PAGE = (400, 413, 422)
"""Status codes by which a server refuses one request, and not all of them."""
CONNECTS_IN = 10.0
"""Seconds after which a server that takes no connection is away."""
FIRST_WAIT = 1.0
"""Seconds before the first retry; doubled each time."""


class _Retryable(Exception):
    """Worth another try; the message says what happened."""


class _Away(_Retryable):
    """No connection."""


class EndpointEngine:
    """Reads pages with the model of the settings."""

    def __init__(self, settings: Ocr) -> None:
        key = key_of(settings)
        self._settings, self._session = settings, requests.Session()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = f"{str(settings.endpoint).rstrip('/')}/chat/completions"

    def read(self, picture: Picture, until: float) -> str:
        """The model's answer."""
        body = self._body(picture)
        for attempt in itertools.count():
            try:
                return self._text(self._posted(body, until))
            except _Retryable as error:
                wait = FIRST_WAIT * 2**attempt
                if attempt < self._settings.retries and monotonic() + wait < until:
                    sleep(wait)
                    continue
                if isinstance(error, _Away):
                    raise Unavailable(
                        f"data.extract.ocr.endpoint {self._url} cannot be reached ({error}); check the address and"
                        " the server, then run the same command again"
                    ) from None
                raise Failed(str(error)) from None
        raise AssertionError  # for type checkers: the loop has no end

    def _body(self, picture: Picture) -> dict[str, Any]:
        image = "data:image/png;base64," + base64.b64encode(picture.png()).decode()
        content = [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": self._settings.prompt},
        ]
        return {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._settings.max_tokens,
            "temperature": 0,
        }

    def _posted(self, body: dict[str, Any], until: float) -> requests.Response:
        left = until - monotonic()
        if left <= 0:
            raise Failed("timed out")
        try:
            # Followed nowhere: the page and the key are for this server.
            return self._session.post(
                self._url,
                json=body,
                headers=self._headers,
                timeout=(min(CONNECTS_IN, left), left),
                allow_redirects=False,
            )
        except requests.ReadTimeout:
            raise Failed("timed out") from None
        except requests.RequestException as error:
            raise _Away(type(error).__name__) from None

    def _text(self, response: requests.Response) -> str:
        """The text of a chat completion."""
        status = response.status_code
        if status in BUSY or status >= 500:
            raise _Retryable(f"status {status}")
        if status in ABOUT_THE_PAGE:
            raise Failed(f"status {status}")
        if status != 200:
            raise Unavailable(
                f"data.extract.ocr.endpoint {self._url} refuses with status {status}; check the address, the model and"
                " the key"
            )
        try:
            choice = response.json()["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise _Retryable("no chat completion") from None
        if reason == "length":
            raise Failed(f"cut off: above data.extract.ocr.max_tokens {self._settings.max_tokens}")
        return text if isinstance(text, str) else ""
