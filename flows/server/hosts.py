"""Who may ask Prefect's server, judged by the name it is asked under, and what its pages may ask.

A page of another site can point a name of its own at this machine (DNS rebinding); its requests then carry that name.
MLflow's server refuses foreign names itself."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.server.auth import is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ALLOWED = "IMBIK_ALLOWED_HOSTS"
"""Environment variable: comma-separated names under which others reach the servers of `imbik up`, for instance through
a proxy."""
LISTENS = "IMBIK_SERVER_HOST"
"""Environment variable of the server: the address that it listens on."""
HEALTH = "/api/health"
"""Answers under any name, as MLflow's does: it tells nothing."""
OWN_PAGES = b"connect-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:"
"""Content security policy of pages: their scripts ask this server only, whatever analytics they bring along."""


def named() -> list[str]:
    """The names of IMBIK_ALLOWED_HOSTS, without ports, in lower case."""
    return [_bare(name.strip()) for name in os.environ.get(ALLOWED, "").split(",") if name.strip()]


def allowed(host: str, listens: str, names: list[str]) -> bool:
    """Whether a server that listens on an address may answer to a Host header. Addresses are no names of other sites;
    where only this machine reaches the server, only its own are meant."""
    name = _bare(host)
    if name in ("localhost", _bare(listens), *names):
        return True
    if is_loopback(name):
        return True
    if is_loopback(listens):
        return False
    return _is_address(name) or name == os.uname().nodename.lower()


def for_mlflow(listens: str) -> dict[str, str]:
    """MLflow's setting for the same names, where it is not set and its own default does not do."""
    more = [*named(), *([] if is_loopback(listens) or _is_address(listens) else [listens.lower()])]
    if not is_loopback(listens):
        more.append(os.uname().nodename.lower())
    if not more or os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS"):
        return {}
    from mlflow.server.security_utils import get_default_allowed_hosts

    hosts = [*get_default_allowed_hosts(), *(form for name in dict.fromkeys(more) for form in (name, f"{name}:*"))]
    return {"MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts)}


def guarded(served: App) -> App:
    """An ASGI application that refuses requests under foreign names with 400, before `served` sees them."""
    listens, names = os.environ.get(LISTENS, "127.0.0.1"), named()

    async def call(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await served(scope, receive, send)
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if scope["path"] != HEALTH and not allowed(host, listens, names):
            return await _refuse(scope["type"], host, receive, send)

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                if any(name.lower() == b"content-type" and b"text/html" in value for name, value in headers):
                    message = dict(message) | {"headers": [*headers, (b"content-security-policy", OWN_PAGES)]}
            await send(message)

        await served(scope, receive, with_policy)

    return call


async def _refuse(kind: str, host: str, receive: Receive, send: Send) -> None:
    if kind == "websocket":
        await receive()
        return await send({"type": "websocket.close", "code": 1008})
    sentence = f"this server is not known as {ascii(host)[:100]}; add the name to {ALLOWED} and start it again\n"
    plain = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 400, "headers": plain})
    await send({"type": "http.response.body", "body": sentence.encode()})


def _bare(host: str) -> str:
    """The name or address of a Host header: without port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    name, _, port = host.rpartition(":")
    return (name if name and ":" not in name and port.isdigit() else host).lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
