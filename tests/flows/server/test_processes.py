"""The servers of a store: when one counts as started, and what is said where it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import psutil
import pytest

from flows.server import processes
from flows.server.processes import Server, ServerFailed
from tests.fixtures.http import Handler, running


class Healthy(Handler):
    """A server that is well, and asks for a login elsewhere."""

    def get(self) -> None:
        self.send(200 if self.path == "/v1/health" else 401, "yes")


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate(b"\n")


@pytest.fixture
def ended() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    return process


def closed() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def test_a_server_is_ready_when_it_is_well(waiting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with running(Healthy) as url:
        assert Server(url, waiting, tmp_path / "log").ready(5) == url


@pytest.mark.parametrize(("log", "last"), [(None, ""), ("", "no message"), ("first\nlast\n\n", "last")])
def test_a_server_that_ends_is_told_with_its_last_words(
    log: str | None, last: str, ended: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "log"
    file.write_text("x" * 300 if log is None else log)
    with pytest.raises(ServerFailed) as caught:
        Server(closed(), ended, file).ready(5)
    said = f"a server exited with 3 while starting ({last or 'x' * 200}); see its log {file}"
    assert str(caught.value) == said


def test_a_silent_server_is_given_up(waiting: subprocess.Popen[bytes], tmp_path: Path) -> None:
    url = closed()
    with pytest.raises(ServerFailed, match=rf"did not answer at {url}/health within 0 s; see its log"):
        Server(url, waiting, tmp_path / "log").ready(0.1)


def test_any_answer_is_one_of_a_server() -> None:
    with running(Healthy) as url:
        processes.check_reachable(url)
        processes.check_reachable(url.removesuffix("/v1"))  # 401: Prefect reports a failed login better
    with pytest.raises(ServerFailed, match=r"no Prefect server answers at .*refused.*; start it, or unset"):
        processes.check_reachable(closed())


@pytest.mark.parametrize(
    ("free", "error", "told"),
    [
        (999_999, ValueError("odd"), "the disk is full (1.0 MB free at {store}); free space or choose another --store"),
        (1_000_000, ValueError("odd"), "odd"),
        (0, ValueError("the disk is full here"), "the disk is full here"),
    ],
)
def test_a_full_disk_is_told_instead(
    free: int, error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(ValueError) as caught, processes.disk_watched(tmp_path):
        raise error
    assert str(caught.value).startswith(told.format(store=tmp_path))
    with processes.disk_watched(tmp_path):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_told_with_its_option(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(ServerFailed) as caught:
            processes.check_free(host, port, "--prefect-port")
    assert str(caught.value) == (
        f"cannot listen on {host}:{port} (Address already in use); choose another --prefect-port"
    )
    processes.check_free(host, port, "--prefect-port")


def test_a_command_ends_with_its_block(tmp_path: Path) -> None:
    program = "import os, time; print(os.environ['OWN'], flush=True); time.sleep(60)"
    log = tmp_path / "log"
    log.write_text("before\n")
    with processes.process([sys.executable, "-c", program], {"OWN": "mine"}, log) as started:
        while log.read_text() != "before\nmine\n":
            assert started.poll() is None
        assert os.getsid(started.pid) == started.pid != os.getsid(0), "a terminal's Ctrl-C is not for it"
    assert not psutil.pid_exists(started.pid)


def test_prefect_writes_under_the_store_and_keeps_what_is_set(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"PREFECT_HOME": "before", "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG"}):
        os.environ.pop("PREFECT_CLI_PROMPT", None)
        processes.configure_prefect(tmp_path)
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
        assert os.environ["PREFECT_SERVER_LOGGING_LEVEL"] == "DEBUG"
        assert os.environ["PREFECT_CLI_PROMPT"] == "false"
