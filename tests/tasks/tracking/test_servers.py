"""Addresses of the servers of a store, who may run them, and what of an address is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tasks.tracking.servers import SERVICES, bare, own_uri, publish_addresses, services, single_instance


def test_addresses_are_known_while_the_servers_run(tmp_path: Path) -> None:
    assert (services(tmp_path), own_uri(tmp_path)) == ({}, f"sqlite:///{tmp_path}/mlflow.db")
    with single_instance(tmp_path):
        with publish_addresses(tmp_path, mlflow="http://a:1"):
            assert services(tmp_path) == {"mlflow": "http://a:1"}
            assert own_uri(tmp_path) == "http://a:1"
        assert services(tmp_path) == {}
    (tmp_path / SERVICES).write_text(json.dumps({"mlflow": "http://killed:1"}))
    assert services(tmp_path) == {}, "nobody holds the lock"


def test_servers_of_another_machine_are_not_used(tmp_path: Path) -> None:
    with single_instance(tmp_path):
        (tmp_path / SERVICES).write_text(json.dumps({"mlflow": "http://a:1", "machine": "another"}))
        assert services(tmp_path) == {}


def test_two_cannot_serve_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    with single_instance(tmp_path), pytest.raises(ValueError, match="imbik up already runs"), single_instance(tmp_path):
        pass
    assert len(slept) == 3
    (tmp_path / SERVICES).write_text("{}")
    with single_instance(tmp_path):
        assert not (tmp_path / SERVICES).exists(), "left by a killed process"


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (None, None),
        ("http://a:5000/x", "http://a:5000/x"),
        ("http://me:secret@a:5000/x?y=1", "http://a:5000/x?y=1"),
        ("https://me@b:secret@a", "https://a"),
    ],
)
def test_a_password_is_left_out(address: str | None, kept: str | None) -> None:
    assert bare(address) == kept
