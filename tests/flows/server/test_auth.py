"""Who may reach the servers of `imbik up`: this machine, or others with a password that is long enough."""

from __future__ import annotations

import pytest

from flows.server import auth


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_only_this_machine_reaches_a_loopback(host: str, own: bool) -> None:
    assert auth.is_loopback(host) is own


@pytest.mark.parametrize(
    ("prefect", "mlflow", "missing"),
    [
        ("me:" + "x" * 12, "y" * 12, ""),
        ("me:" + "x" * 11, "y" * 12, auth.PREFECT),
        ("x" * 30, "y" * 12, auth.PREFECT),  # no user
        (":" + "x" * 12, "y" * 12, auth.PREFECT),
        ("me:" + "x" * 12, "y" * 11, auth.MLFLOW),
        ("", "", auth.PREFECT),
    ],
)
def test_others_need_passwords(prefect: str, mlflow: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auth.PREFECT, prefect)
    monkeypatch.setenv(auth.MLFLOW, mlflow)
    auth.check("localhost")
    if not missing:
        return auth.check("0.0.0.0")
    with pytest.raises(ValueError, match=f"allows other machines but {missing} has no password of at least 12"):
        auth.check("0.0.0.0")


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")],
)
def test_a_server_on_all_addresses_is_reached_on_this_machine(host: str, address: str) -> None:
    assert auth.reached(host) == address
