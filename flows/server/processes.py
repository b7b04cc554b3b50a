"""The Prefect and MLflow servers of a store: an embedded Prefect server for a single run, or both for `imbik up`.

Every process started here ends with the one that started it, and writes only under the store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.environment import settle
from conf.secrets import masker
from flows.server import auth as access
from flows.server import hosts
from tasks.launch.guard import guarded
from tasks.launch.ports import free_port
from tasks.store import databases
from tasks.store.locks import held
from tasks.tracking.servers import artifacts_uri, services

START_SECONDS = 180.0
NEEDED_BYTES = 1_000_000
"""With less free disk the servers' databases cannot grow."""
SEND_SECONDS = 5.0
ARENAS = {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
"""For servers, whose many threads would each keep freed memory; not for the worker, because its jobs inherit its
environment."""


class ServerFailed(ValueError):
    """A server of the store did not start; the message has the next step."""


@dataclass(frozen=True)
class Server:
    """A started server: its URL once it is `ready`, its process and its log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self, seconds: float = START_SECONDS) -> str:
        """Wait until the server answers and return its URL. Raises ServerFailed if it exits or does not answer in
        time."""
        deadline = time.monotonic() + seconds
        health = f"{self.url}/health"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                last = (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
                raise ServerFailed(
                    f"a server exited with {self.process.returncode} while starting ({last[:200]}); see its log"
                    f" {self.log}"
                )
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
                _asked(health, 2.0),
            ):
                return self.url
            time.sleep(0.05)
        raise ServerFailed(
            f"a server did not answer at {health} within {seconds:.0f} s; see its log {self.log}, then run again"
        )


def configure_prefect(store: Path) -> None:
    """Configure Prefect for the store; must run before prefect is imported."""
    settle()
    os.environ["PREFECT_HOME"] = str(store / "prefect")
    quiet = {
        "PREFECT_CLI_PROMPT": "false",
        # errors are printed once, by the command line; the API keeps every line
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def disk_watched(store: Path) -> Iterator[None]:
    """Servers fail in various ways when a database cannot grow; report a full disk instead."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(store).free
        if free < NEEDED_BYTES and "disk is full" not in str(error):
            raise ServerFailed(
                f"the disk is full ({free / 1e6:.1f} MB free at {store}); free space or choose another --store, then"
                " run again to continue"
            ) from error
        raise


@contextlib.contextmanager
def prefect(store: Path, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
    """URL of a Prefect API for one run: PREFECT_API_URL, the server of `imbik up`, or an embedded server. `meanwhile`
    is called while the server starts, with its URL in the environment."""
    url = os.environ.get("PREFECT_API_URL") or services(store).get("prefect")
    if url:
        check_reachable(url)
        os.environ["PREFECT_API_URL"] = url
        meanwhile()
        yield url
        return
    port = free_port()
    os.environ["PREFECT_API_URL"] = api_url(access.LOOPBACK, port)
    with embedded_prefect(store, port, user_interface=False, meanwhile=meanwhile) as server:
        try:
            yield server.url
        finally:
            _send_logs()
            del os.environ["PREFECT_API_URL"]


def check_reachable(url: str) -> None:
    """Raise ServerFailed if no server answers. Any HTTP status is accepted: Prefect reports a failed login better."""
    try:
        with _asked(f"{url}/health", 10.0):
            pass
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerFailed(
            f"no Prefect server answers at {masker(os.environ)(url)} ({reason}); start it, or unset PREFECT_API_URL to"
            " use the embedded server"
        ) from error


def _asked(url: str, seconds: float) -> Any:
    """The answer to a GET, for a with block. Raises URLError. This machine is asked without a proxy; urllib would take
    an IPv6 address for a foreign name."""
    own = access.is_loopback(urllib.parse.urlsplit(url).hostname or "")
    handlers = [urllib.request.ProxyHandler({})] if own else []
    return urllib.request.build_opener(*handlers).open(url, timeout=seconds)


def _send_logs() -> None:
    """Send Prefect's buffered logs now; after the server's end they would be retried for a minute and lost."""
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=SEND_SECONDS)


@contextlib.contextmanager
def embedded_prefect(
    store: Path,
    port: int,
    *,
    user_interface: bool,
    host: str = access.LOOPBACK,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Server]:
    """Start Prefect's server with its SQLite database under the store, and wait until it is ready. `meanwhile` is
    called while it starts."""
    (store / "prefect").mkdir(parents=True, exist_ok=True)
    databases.ready(store / "prefect" / "prefect.db", "prefect")
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.server.sqlite_retry:app"]
    command += ["--host", host, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    environment = (
        access.prefect(host, port)
        | ARENAS
        | {
            hosts.LISTENS: host,
            "PREFECT_UI_ENABLED": str(int(user_interface)),
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_PORT": str(port),
            # With Prefect's default, in memory, a restart would lose the holder of a deployment's slot and never free
            # it.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
    )
    if not user_interface:
        environment["PREFECT__SERVER_EPHEMERAL"] = "1"
    url = api_url(host, port)
    environment["PREFECT_API_URL"] = url
    log = store / "prefect" / "server.log"
    with contextlib.ExitStack() as stack:
        # One at a time: two servers that create the same database concurrently fail.
        with held(store / "prefect" / "starting.lock"):
            server = Server(url, stack.enter_context(process(command, environment, log)), log)
            meanwhile()
            server.ready()
        yield server


def api_url(host: str, port: int) -> str:
    """API URL of a Prefect server that listens on `host`."""
    return f"http://{access.reached(host)}:{port}/api"


@contextlib.contextmanager
def mlflow(store: Path, port: int, host: str = access.LOOPBACK) -> Iterator[Server]:
    """Start MLflow's server on the database that local runs write to, without waiting until it is ready."""
    log = store / "mlflow.log"
    databases.ready(store / "mlflow.db", "mlflow")
    databases.settle_here(store / "mlflow.db")
    arguments, environment = access.mlflow(store)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
        *arguments,
    ]
    command += [
        "--backend-store-uri",
        f"sqlite:///{store}/mlflow.db",
        "--artifacts-destination",
        artifacts_uri(store),
    ]
    url = f"http://{access.reached(host)}:{port}"
    environment |= ARENAS | hosts.for_mlflow(host)
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = (
        "false"  # it would start eight more processes for scorers, which are not used
    )
    with process(command, environment, log, tree=True) as running:
        yield Server(url, running, log)


def check_free(host: str, port: int, option: str) -> None:
    """Raise ServerFailed if a server cannot listen on the port; `option` is the command-line option to change."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python repeats the address
        raise ServerFailed(f"cannot listen on {host}:{port} ({reason}); choose another {option}") from error


@contextlib.contextmanager
def process(
    command: list[str], environment: dict[str, str], log: Path, *, tree: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, with output to `log`. It ends with this process in any case; with `tree`, so
    does everything that it starts."""
    import psutil

    from tasks.launch.local import end_trees

    with log.open("ab") as stream:
        running = subprocess.Popen(
            guarded(command, tree=tree),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            end_trees([psutil.Process(running.pid)])
        running.wait()
