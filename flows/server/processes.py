"""The Prefect and MLflow servers of a store: Prefect's embedded one for a single run, or both for as long as `imbik up`
stays.

Every process started here dies with the one that started it, and everything they write is under the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conf.secrets import masker
from flows.server import auth as access
from tasks.launch.guard import guarded
from tasks.store import databases
from tasks.tracking.servers import services

START_SECONDS = 180.0
NEEDED_BYTES = 1_000_000
"""Below this the servers' databases cannot grow."""
SEND_SECONDS = 5.0
ARENAS = {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
"""For servers, whose many threads would each keep what they have freed; not for the worker, whose jobs inherit what it
has."""
PORTS = range(20_000, 32_768)
"""Below those that Linux gives to connections, unless it was told otherwise."""


class ServerFailed(ValueError):
    """A server of the store did not start; the message says what to do."""


@dataclass(frozen=True)
class Server:
    """A server that was started: where it is reached once it is `ready`, its process, and its log."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> str:
        """Wait until it answers and return its address. Raises ServerFailed where it ends instead, or says nothing for
        too long."""
        deadline = time.monotonic() + START_SECONDS
        asked = f"{self.url}/health"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                last = (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
                raise ServerFailed(
                    f"a server exited with {self.process.returncode} while starting ({last[:200]}); its log is"
                    f" {self.log}"
                )
            with (
                contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
                urllib.request.urlopen(asked, timeout=2),
            ):
                return self.url
            time.sleep(0.05)
        raise ServerFailed(
            f"a server did not answer at {asked} within {START_SECONDS:.0f} s; look into its log {self.log}, then run"
            " again"
        )


def configure_prefect(store: Path) -> None:
    """Point Prefect at the store; must come before prefect is imported."""
    os.environ["PREFECT_HOME"] = str(store / "prefect")
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        # errors are said once, by the command line; the API keeps every line
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def disk_watched(store: Path) -> Iterator[None]:
    """Where a database has no room left, servers fail in ways of their own; say that it is the disk."""
    try:
        yield
    except Exception as error:
        free = shutil.disk_usage(store).free
        if free < NEEDED_BYTES and "disk is full" not in str(error):
            raise ServerFailed(
                f"the disk is full ({free / 1e6:.1f} MB free at {store}); free space or choose another store with"
                " --store, then run again: it continues"
            ) from error
        raise


@contextlib.contextmanager
def prefect(store: Path, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
    """A Prefect API for one run: the user's own, the one `imbik up` runs for this store, or Prefect's embedded server.
    `meanwhile` is done while that starts, with its address in the environment."""
    known = os.environ.get("PREFECT_API_URL") or services(store).get("prefect")
    if known:
        check_reachable(known)
        os.environ["PREFECT_API_URL"] = known
        meanwhile()
        yield known
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
    """Raise ServerFailed where no server answers. Any HTTP answer will do: a server behind a login refuses strangers,
    and Prefect itself says so better."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10):
            pass
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerFailed(
            f"no Prefect server answers at {masker(os.environ)(url)} ({reason}); start it, or unset PREFECT_API_URL to"
            " use imbik's own"
        ) from error


def _send_logs() -> None:
    """Prefect sends logs behind the flow; sent after the server's end they would be tried again for a minute, and
    lost."""
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
    """Prefect's server, ready, its SQLite database under the store; on loopback unless `host` says otherwise.
    `meanwhile` is done while it starts."""
    (store / "prefect").mkdir(parents=True, exist_ok=True)
    databases.ready(store / "prefect" / "prefect.db", "prefect")
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.server.sqlite_retry:app"]
    command += ["--host", host, "--port", str(port), "--log-level", "error", "--lifespan", "on"]
    environment = (
        access.prefect(port)
        | ARENAS
        | {
            "PREFECT_UI_ENABLED": str(int(user_interface)),
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_PORT": str(port),
            # In memory, Prefect's default, a restart would forget who holds a deployment's slot, and nobody would ever
            # get it again.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
    )
    if not user_interface:
        environment["PREFECT__SERVER_EPHEMERAL"] = "1"
    url = api_url(host, port)
    environment["PREFECT_API_URL"] = url
    log = store / "prefect" / "server.log"
    with contextlib.ExitStack() as stack:
        # One at a time: two servers that make the same database at once stop each other.
        with (store / "prefect" / "starting.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            server = Server(url, stack.enter_context(process(command, environment, log)), log)
            meanwhile()
            server.ready()
        yield server


def api_url(host: str, port: int) -> str:
    """Where the API of a Prefect server is reached that listens on `host`."""
    return f"http://{access.reached(host)}:{port}/api"


@contextlib.contextmanager
def mlflow(store: Path, port: int, host: str = access.LOOPBACK) -> Iterator[Server]:
    """MLflow's server, started but not waited for, over the same database local runs write; on loopback unless `host`
    says otherwise."""
    log = store / "mlflow.log"
    databases.ready(store / "mlflow.db", "mlflow")
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
        f"{store}/mlflow-artifacts",
    ]
    url = f"http://{access.reached(host)}:{port}"
    environment |= ARENAS
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = (
        "false"  # it would start eight more processes, for scorers that we do not use
    )
    with process(command, environment, log, tree=True) as running:
        yield Server(url, running, log)


def check_free(host: str, port: int, option: str) -> None:
    """Raise ServerFailed where a server cannot listen, before any is started; `option` names another port."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.create_server((host, port), family=family):
            pass
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (while")[0]  # Python says the address once more
        raise ServerFailed(f"{option} {port} at {host} cannot be listened on ({why}); choose another port") from error


@contextlib.contextmanager
def process(
    command: list[str], environment: dict[str, str], log: Path, *, tree: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the block ends, and dies with this process however that dies, with `tree` all that it
    starts too; it writes to `log`."""
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


def free_port() -> int:
    """A port that nobody listens on, nor will a connection have it before a server does."""
    for port in random.sample(PORTS, 1000):
        with contextlib.suppress(OSError), socket.create_server((access.LOOPBACK, port)):
            return port
    raise ServerFailed(
        f"none of a thousand ports from {PORTS.start} to {PORTS.stop - 1} is free on {access.LOOPBACK}; end what"
        " listens there"
    )
