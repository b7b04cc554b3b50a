"""The way to a login node: NeMo-Run's SSHTunnel over a connection that is opened here, by keys and to known hosts only.

NeMo-Run by itself takes any host for the one that is meant, asks for a password where keys do not do, and ends the
process where nobody gives one."""

from __future__ import annotations

from typing import Any

from conf.cluster import Ssh
from tasks.launch.backend import Unreachable

CONNECT_SECONDS = 20
ALIVE_SECONDS = 30
"""Between two signs of life, without which a connection through a firewall dies unnoticed."""


def tunnel(ssh: Ssh, folder: str) -> Any:
    """A connected tunnel of NeMo-Run's that works in `folder`. Raises Unreachable with one sentence."""
    from fabric import Config, Connection
    from nemo_run import SSHTunnel
    from paramiko import RejectPolicy, SSHException

    connection = Connection(
        ssh.host,
        user=ssh.user,
        port=ssh.port,
        connect_timeout=CONNECT_SECONDS,
        connect_kwargs={"key_filename": [ssh.identity_file]} if ssh.identity_file else {},
        config=Config(overrides={"run": {"in_stream": False}}),
    )
    connection.client.load_system_host_keys()
    connection.client.set_missing_host_key_policy(RejectPolicy())
    try:
        connection.open()
    except (OSError, EOFError, SSHException) as error:
        there = f"ssh -p {connection.port} {connection.user}@{connection.host}"
        said = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(
            f"the login node is out of reach ({said}); `{there}` must work here by its keys, without a question"
        ) from error
    connection.transport.set_keepalive(ALIVE_SECONDS)
    found = SSHTunnel(job_dir=folder, host=ssh.host, user=ssh.user, port=ssh.port, identity=ssh.identity_file)
    found.session = connection
    return found


def closed(tunnel: Any) -> bool:
    """Whether the connection has broken since."""
    return not tunnel.session.is_connected
