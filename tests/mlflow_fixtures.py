"""A real MLflow server, and a proxy before it that can be slow, fail, lose answers or not be there."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from flows import server

Mode = Literal["ok", "slow", "error", "lost", "dead"]


class Proxy:
    """Forwards to a server as its mode says: `slow` after `seconds`, `lost` carries a tenth of POSTs out and answers 500 to them, `dead`
    listens nowhere."""

    def __init__(self, target: int, port: int) -> None:
        self.target, self.port = target, port
        self.seconds = 30.0
        self.mode: Mode = "dead"
        self.late = 0
        """Requests that are held back now; they are carried out later, as the mode then says."""
        self._chance = random.Random(1)
        self._server: ThreadingHTTPServer | None = None

    def turn(self, mode: Mode) -> None:
        """Behave so from now on."""
        self.mode = mode
        if mode == "dead" and self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if mode != "dead" and self._server is None:
            proxy = self

            class Handler(BaseHTTPRequestHandler):
                def handle_one_request(self) -> None:
                    with contextlib.suppress(OSError):  # whoever asked has gone
                        super().handle_one_request()

                def log_message(self, *told: Any) -> None:
                    return

                def do_GET(self) -> None:
                    proxy.answer(self)

                do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

            self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request."""
        if self.mode == "slow":
            self.late += 1
            time.sleep(self.seconds)
            self.late -= 1
        if self.mode == "error":
            request.send_error(500)
            return
        size = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(size)
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "accept-encoding", "connection")}
        connection.request(request.command, request.path, body, headers | {"Host": f"127.0.0.1:{self.target}"})
        found = connection.getresponse()
        content = found.read()
        if self.mode == "lost" and request.command == "POST" and self._chance.random() < 0.1:
            request.send_error(500)
            return
        request.send_response(found.status)
        for key, value in found.getheaders():
            if key.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                request.send_header(key, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
        connection.close()


@contextlib.contextmanager
def served(store: Path) -> Iterator[tuple[str, Proxy]]:
    """An MLflow server over a folder of its own, behind a proxy that is dead at first: the proxy's address, and the proxy."""
    store.mkdir(parents=True, exist_ok=True)
    target, port = server.free_port(), server.free_port()
    proxy = Proxy(target, port)
    with server.mlflow(store, target) as started:
        started.ready()
        try:
            yield f"http://127.0.0.1:{port}", proxy
        finally:
            proxy.turn("dead")
