"""Free ports below those that connections take."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from tasks.launch import ports


def test_a_free_port_can_be_listened_on() -> None:
    for _ in range(5):
        port = ports.free_port()
        assert 20_000 <= port < 32_768
        with socket.create_server((ports.LOOPBACK, port)):
            pass


def test_ports_that_are_taken_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[int]()

    def create(address: tuple[str, int]) -> Any:
        tried.append(address[1])
        if len(tried) < 4:
            raise OSError("taken")
        return contextlib.nullcontext()

    monkeypatch.setattr(socket, "create_server", create)
    assert ports.free_port() == tried[3]
    assert len(set(tried)) == 4


def test_a_machine_without_a_free_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(address: tuple[str, int]) -> None:
        raise OSError("taken")

    monkeypatch.setattr(socket, "create_server", taken)
    with pytest.raises(ports.NoFreePort, match="none of 1,000 ports between 20000 and 32767 is free"):
        ports.free_port()
