"""A request that SQLite refused is made again, whole, and only its last answer is seen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from flows.server.sqlite_retry import TRIES, patient


@pytest.mark.parametrize(("busy", "status", "asked"), [(0, 200, 1), (2, 200, 3), (TRIES, 503, TRIES)])
def test_what_the_database_refused_is_asked_again(busy: int, status: int, asked: int) -> None:
    bodies: list[bytes] = []

    async def answer(request: Request) -> PlainTextResponse:
        bodies.append(await request.body())
        if len(bodies) <= busy:
            raise RuntimeError("the database is locked")
        return PlainTextResponse("done")

    def refuse(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("busy", status_code=503)  # and Starlette raises the error all the same

    served: Any = Starlette(routes=[Route("/", answer, methods=["POST"])], exception_handlers={Exception: refuse})
    found = TestClient(patient(served, wait=0.0), raise_server_exceptions=False).post("/", content=b"x" * 200_000)  # type: ignore[arg-type]
    assert (found.status_code, found.text) == (status, "done" if status == 200 else "busy")
    assert bodies == [b"x" * 200_000] * asked


def test_a_client_that_goes_away_is_seen_after_the_body() -> None:
    """What is asked for next is the client's own: that it went away, not the body once more."""
    seen: list[str] = []

    async def served(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"] for _ in range(2)])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    messages = iter([{"type": "http.request", "body": b"x", "more_body": False}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        seen.append(message["type"])

    asyncio.run(patient(served, wait=0.0)({"type": "http", "method": "POST"}, receive, send))  # type: ignore[arg-type]
    assert seen == ["http.request", "http.disconnect", "http.response.start"]
