"""SSH connections to a login node: NeMo-Run's SSHTunnel over a connection with key authentication and known hosts only.

NeMo-Run's own connection accepts any host key, prompts for a password if keys fail, and exits the process without
one."""

from __future__ import annotations

from typing import Any

from conf.cluster import Ssh
from tasks.launch.backend import Unreachable

CONNECT_SECONDS = 20
ALIVE_SECONDS = 30
"""Keepalive interval, without which a firewall drops the connection silently."""


def tunnel(ssh: Ssh, folder: str) -> Any:
    """A connected NeMo-Run tunnel with working folder `folder`. Raises Unreachable."""
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
        command = f"ssh -p {connection.port} {connection.user}@{connection.host}"
        message = " ".join(str(error).split()) or type(error).__name__
        raise Unreachable(
            f"the login node is unreachable ({message}); `{command}` must work on this machine with keys and without"
            " prompts"
        ) from error
    connection.transport.set_keepalive(ALIVE_SECONDS)
    nemo_tunnel = SSHTunnel(job_dir=folder, host=ssh.host, user=ssh.user, port=ssh.port, identity=ssh.identity_file)
    nemo_tunnel.session = connection
    return nemo_tunnel


def closed(tunnel: Any) -> bool:
    """Whether the connection is closed."""
    return not tunnel.session.is_connected
