"""What `imbik deploy`, `schedule` and `unschedule` register with Prefect, and with which server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.commands import deploy
from tasks.tracking.servers import publish_addresses, single_instance
from tests.fixtures import http


class Health(http.Handler):
    """A Prefect server that is healthy, and nothing else."""

    def get(self) -> None:
        self.send(200 if self.path == "/v1/health" else 404, True)


@pytest.fixture
def healthy() -> Iterator[str]:
    with http.running(Health) as url:
        yield url


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of this process, without a Prefect server; what a command sets in it is taken back."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    monkeypatch.setattr(os, "environ", own)
    return own


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str]]:
    """Deployments and the pool that would go to the server."""
    from flows.server import deployments

    kept: list[tuple[Any, str]] = []

    def keep(made: list[Any], pool: str) -> list[str]:
        kept.extend((each, pool) for each in made)
        return [each.full_name for each in made]

    monkeypatch.setattr(deployments, "register", keep)
    return kept


def test_the_server_of_imbik_up_is_found(healthy: str, environment: dict[str, str], tmp_path: Path) -> None:
    with single_instance(tmp_path), publish_addresses(tmp_path, prefect=healthy):
        assert deploy._connect(tmp_path) == tmp_path
    assert environment["PREFECT_API_URL"] == healthy


def test_a_server_that_is_named_goes_first(healthy: str, environment: dict[str, str], tmp_path: Path) -> None:
    environment["PREFECT_API_URL"] = healthy
    with single_instance(tmp_path), publish_addresses(tmp_path, prefect="http://127.0.0.1:9/api"):
        deploy._connect(tmp_path)
    assert environment["PREFECT_API_URL"] == healthy


def test_without_a_server_both_ways_are_named(environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"set PREFECT_API_URL, or run `imbik up --store {tmp_path}`"):
        deploy._connect(tmp_path)
    assert "PREFECT_API_URL" not in environment


@pytest.mark.parametrize(("pool", "starts_here"), [("imbik", True), ("theirs", False)])
def test_a_schedule_is_registered_and_told(
    pool: str,
    starts_here: bool,
    healthy: str,
    environment: dict[str, str],
    registered: list[tuple[Any, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment["PREFECT_API_URL"] = healthy
    monkeypatch.chdir(tmp_path)
    deploy.schedule("demo", cron="30 2 * * *", timezone="Europe/Berlin", store=tmp_path, work_pool=pool)
    ((deployment, its_pool),) = registered
    assert (deployment.full_name, deployment.work_pool_name, its_pool) == ("compress/demo", pool, pool)
    assert deployment.job_variables == ({"working_dir": str(tmp_path)} if starts_here else {})
    assert deployment.parameters["store"] == str(tmp_path) and deployment.parameters["cluster"] == "local"
    told = capsys.readouterr().out
    assert told.startswith("compress/demo runs at '30 2 * * *' (Europe/Berlin); next: ")
    assert told.count(" 02:30 CE") == 3, "three nights to come"
    assert len(told.splitlines()) == 1


def test_a_named_preset_is_registered_alone(
    healthy: str,
    environment: dict[str, str],
    registered: list[tuple[Any, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment["PREFECT_API_URL"] = healthy
    deploy.deploy(["demo"], store=tmp_path)
    assert [deployment.full_name for deployment, _ in registered] == ["compress/demo"]
    assert capsys.readouterr().out == "compress/demo\n"
