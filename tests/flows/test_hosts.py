"""Prefect's server answers under its own names only, and its pages ask it alone."""

from __future__ import annotations

import os
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.server import auth, hosts


def served(monkeypatch: pytest.MonkeyPatch, listens: str = "127.0.0.1", names: str = "") -> TestClient:
    """A server that would answer anyone, behind the guard."""
    monkeypatch.setenv(hosts.LISTENS, listens)
    monkeypatch.setenv(hosts.ALLOWED, names)

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("everything")

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<html></html>")

    async def events(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    routes = [
        Route("/api/deployments/filter", answer, methods=["POST"]),
        Route(hosts.HEALTH, answer),
        Route("/", page),
        WebSocketRoute("/api/events", events),
    ]
    app: Any = hosts.guarded(Starlette(routes=routes))  # type: ignore[arg-type]
    return TestClient(app)


def asked(client: TestClient, host: str) -> int:
    return client.post("/api/deployments/filter", headers={"Host": host}).status_code


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "LOCALHOST", "[::1]:4200", "127.0.0.1"])
def test_own_names_are_answered(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert asked(served(monkeypatch), host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:4200", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4200", "10.0.0.7:4200", ""],
)
def test_foreign_names_are_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert asked(served(monkeypatch), host) == 400


def test_the_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = served(monkeypatch).get("/", headers={"Host": "box.example"})
    assert refused.text.startswith("this server is not known as 'box.example'; add the name to IMBIK_ALLOWED_HOSTS")


def test_configured_names_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    client = served(monkeypatch, names="prefect.example.org, Box:4200")
    assert [asked(client, host) for host in ("prefect.example.org", "box:4200", "other.example.org")] == [200, 200, 400]


def test_open_server_answers_to_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    client = served(monkeypatch, listens="0.0.0.0")
    answers = [asked(client, host) for host in ("10.0.0.7:4200", f"{os.uname().nodename}:4200", "evil.example")]
    assert answers == [200, 200, 400]


def test_health_is_answered_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(monkeypatch).get(hosts.HEALTH, headers={"Host": "balancer.example"}).status_code == 200


def test_foreign_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client = served(monkeypatch)
    with client.websocket_connect("/api/events", headers={"Host": "localhost:4200"}):
        pass
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/events", headers={"Host": "evil.example"}):
        pass


def test_pages_may_ask_their_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    client = served(monkeypatch)
    policy = client.get("/", headers={"Host": "localhost"}).headers["content-security-policy"]
    assert "connect-src 'self';" in policy and "https:" not in policy
    assert "content-security-policy" not in client.get(hosts.HEALTH).headers


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("10.0.0.7", "10.0.0.7")]
)
def test_url_of_a_server_has_ipv6_in_brackets(host: str, url: str) -> None:
    assert auth.reached(host) == url
    assert f"http://{url}:4200" in auth.prefect(host, 4200)["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")


def test_mlflow_gets_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)
    monkeypatch.setenv(hosts.ALLOWED, "mlflow.example.org")
    names = hosts.for_mlflow("127.0.0.1")["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    tried = ("mlflow.example.org", "mlflow.example.org:5000", "localhost:5000", "[::1]:5000", "evil.example")
    assert [is_allowed_host_header(names, host) for host in tried] == [True, True, True, True, False]
    monkeypatch.delenv(hosts.ALLOWED)
    assert hosts.for_mlflow("127.0.0.1") == {}, "its own default does"
