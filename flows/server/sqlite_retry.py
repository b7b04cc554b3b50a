"""Prefect's server as imbik starts it, on SQLite. There a request fails at once with 503 when another one writes
between its reading and its writing. Prefect's own client then asks again; what its pages ask would show as an error, so
the server asks itself again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

TRIES = 8
WAIT_SECONDS = 0.1
"""Before the second try, twice as long before each next one, give or take a half: 13 s in all."""


def app() -> App:
    """Prefect's application, for uvicorn."""
    from prefect.server.api.server import create_app

    return patient(create_app())


def patient(served: App, wait: float = WAIT_SECONDS) -> App:
    """An ASGI application that tries a request again while `served` answers it with 503. Nothing has come of such a
    request: its transaction was rolled back."""

    async def call(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await served(scope, receive, send)
        body = await _body(receive)
        for tried in range(1, TRIES + 1):
            if not await _refused(served, dict(scope), body, receive, send, last=tried == TRIES):
                return
            await asyncio.sleep(wait * 2 ** (tried - 1) * random.uniform(0.5, 1.5))

    return call


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _refused(served: App, scope: Message, body: bytes, receive: Receive, send: Send, *, last: bool) -> bool:
    """One try. True where the answer was 503, which the asker then does not see, unless it is the last."""
    given = refused = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def judge(message: Message) -> None:
        nonlocal refused
        refused = refused or (message["type"] == "http.response.start" and message["status"] == 503 and not last)
        if not refused:
            await send(message)

    try:
        await served(scope, again, judge)
    except Exception:
        if not refused:  # the framework raises what it has answered with 503, for logs
            raise
    return refused
