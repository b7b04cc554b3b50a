"""Ports of this machine for servers and for ranks that meet."""

from __future__ import annotations

import contextlib
import random
import socket

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 32_768)
"""Below the default range of ephemeral ports on Linux."""


class NoFreePort(ValueError):
    """None of the ports that were tried is free."""


def free_port() -> int:
    """A free port outside the ephemeral range, so that no connection takes it before who asked. Raises NoFreePort."""
    for port in random.sample(PORTS, 1000):
        with contextlib.suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port
    raise NoFreePort(
        f"none of 1,000 ports between {PORTS.start} and {PORTS.stop - 1} is free on {LOOPBACK}; stop processes"
        " that listen there"
    )
