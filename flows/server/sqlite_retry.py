"""Prefect's server on SQLite, with retries. A request fails with 503 if another one writes between its read and its
write. Prefect's client retries such requests but its UI would show an error, so the server retries them itself."""

from __future__ import annotations

import asyncio
import random

from flows.server.hosts import App, Message, Receive, Send, guarded

TRIES = 8
WAIT_SECONDS = 0.1
"""Before the first retry, doubled each time with 50% jitter: 13 s in total."""


def app() -> App:
    """Prefect's ASGI application for uvicorn, with retries, under its own names only."""
    from prefect.server.api.server import create_app

    return guarded(patient(create_app()))


def patient(served: App, wait: float = WAIT_SECONDS) -> App:
    """An ASGI application that retries a request while `served` answers 503. This is safe because the transaction was
    rolled back."""

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
    """One try. Returns True if the answer was 503; it is then withheld from the client unless it is the last try."""
    sent = refused = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def judge(message: Message) -> None:
        nonlocal refused
        refused = refused or (message["type"] == "http.response.start" and message["status"] == 503 and not last)
        if not refused:
            await send(message)

    try:
        await served(scope, again, judge)
    except Exception:
        if not refused:  # the framework also raises the error that it answered with 503
            raise
    return refused
