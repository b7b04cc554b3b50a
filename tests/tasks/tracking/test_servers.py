"""Addresses of the servers of a store, who may run them, and what of an address is kept."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.tracking import servers
from tasks.tracking.servers import SERVICES, bare, client_of, own_uri, publish_addresses, services, single_instance


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


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What is asked of MLflow's client and of the store's database, which are played."""
    asked: list[tuple[str, object]] = []

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            asked.append(("client", tracking_uri))

        def search_experiments(self, max_results: int) -> None:
            asked.append(("search", max_results))

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    monkeypatch.setattr(servers.databases, "ready", lambda path, kind: asked.append(("ready", path.name)))
    monkeypatch.setattr(servers.databases, "settle_here", lambda path: asked.append(("settled", path.name)))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return asked


def test_the_stores_own_database_is_made_and_asked_once(tmp_path: Path, mlflow: list[tuple[str, object]]) -> None:
    client_of(tmp_path, None)
    assert mlflow == [
        ("ready", "mlflow.db"),
        ("settled", "mlflow.db"),
        ("client", f"sqlite:///{tmp_path}/mlflow.db"),
        ("search", 1),
    ]
    assert servers.artifacts_uri(tmp_path) == f"file://{tmp_path}/mlflow-artifacts"


@pytest.mark.parametrize(
    ("named", "used"),
    [
        (None, "http://a:1"),
        ("http://me:secret@a:1", "http://me:secret@a:1"),
        ("http://me:secret@b:1", "http://a:1"),
    ],
)
def test_a_password_comes_from_the_environment(
    named: str | None, used: str, tmp_path: Path, mlflow: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    client_of(tmp_path, "http://a:1")
    assert mlflow == [("client", used)]


def test_a_server_that_is_away_is_not_waited_for(
    tmp_path: Path, mlflow: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless somebody has said how long."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    client_of(tmp_path, "http://a:1")
    assert (os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"], os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == ("0", "99")
