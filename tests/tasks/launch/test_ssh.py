"""A connection to a login node: keys and known hosts only, and one sentence where it cannot be reached."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fabric
import nemo_run
import paramiko
import pytest

from conf.cluster import Ssh
from tasks.launch.backend import Unreachable
from tasks.launch.ssh import closed, tunnel


class Connection:
    """fabric's, without a network; `error` is raised when it opens."""

    error: Exception | None = None

    def __init__(self, host: str, **settings: Any) -> None:
        self.host, self.user, self.port = host, settings["user"], settings["port"] or 22
        self.settings, self.alive, self.policy, self.known = settings, 0, None, False
        self.client = SimpleNamespace(load_system_host_keys=self._know, set_missing_host_key_policy=self._refuse)
        self.transport = SimpleNamespace(set_keepalive=lambda seconds: setattr(self, "alive", seconds))
        self.is_connected = False

    def _know(self) -> None:
        self.known = True

    def _refuse(self, policy: Any) -> None:
        self.policy = policy

    def open(self) -> None:
        if self.error:
            raise self.error
        self.is_connected = True


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "error", None)
    monkeypatch.setattr(fabric, "Connection", Connection)
    monkeypatch.setattr(nemo_run, "SSHTunnel", lambda **given: SimpleNamespace(**given, session=None))


def test_only_known_hosts_are_connected_to_and_kept_alive() -> None:
    made = tunnel(Ssh(host="login", user="me", identity_file="/k"), "/folder")
    session = made.session
    assert session.known and isinstance(session.policy, paramiko.RejectPolicy)
    assert session.settings["connect_kwargs"] == {"key_filename": ["/k"]}
    assert session.settings["connect_timeout"] == 20 and session.alive == 30
    assert session.settings["config"].run.in_stream is False, "a job's commands must not read this terminal"
    assert (made.job_dir, made.host, made.user, made.identity) == ("/folder", "login", "me", "/k")
    assert not closed(made)
    session.is_connected = False
    assert closed(made)


def test_without_a_key_the_agent_is_asked() -> None:
    assert tunnel(Ssh(host="login", user="me"), "/folder").session.settings["connect_kwargs"] == {}


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError("no\n  route"), "no route"), (EOFError(), "EOFError"), (paramiko.SSHException("bad key"), "bad key")],
)
def test_an_unreachable_node_is_told_with_the_command_to_try(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "error", error)
    with pytest.raises(Unreachable) as caught:
        tunnel(Ssh(host="login", user="me", port=2222), "/folder")
    assert str(caught.value) == (
        f"the login node is unreachable ({why}); `ssh -p 2222 me@login` must work on this machine with keys and without"
        " prompts"
    )
