"""`imbik deploy`, `schedule` and `unschedule`: what is registered and what is said. The server is another test's."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from flows.commands import deploy
from flows.server import automations, deployments, schedules
from flows.server import processes as server
from tests.fixtures.flow import RECIPE

URL = "http://127.0.0.1:4200/api"


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, str]]:
    """Deployments with their pools, as the server would get them; the store is tmp_path's."""
    found: list[tuple[Any, str]] = []

    def register(given: list[Any], pool: str) -> list[str]:
        found.extend((each, pool) for each in given)
        return [each.full_name for each in given]

    monkeypatch.setenv("PREFECT_API_URL", URL)
    monkeypatch.setenv("IMBIK_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(deployments, "register", register)
    monkeypatch.setattr(server, "configure_prefect", lambda root: None)
    monkeypatch.setattr(server, "check_reachable", lambda url: None)
    return found


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(deploy.out, "_file", stream)
    return stream


def test_a_recipe_is_registered_by_its_name(
    registered: list[tuple[Any, str]], printed: io.StringIO, tmp_path: Path
) -> None:
    deploy.deploy([str(RECIPE)])
    ((deployment, pool),) = registered
    assert (deployment.name, pool) == (RECIPE.stem, "imbik")
    assert deployment.parameters["store"] == str(tmp_path / "store")
    assert deployment.parameters["cluster"] == "local"
    assert printed.getvalue() == f"{deployment.full_name}\n"


def test_without_recipes_everything_shipped_is_registered(
    registered: list[tuple[Any, str]], printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployments, "names", lambda: ["demo", "stories"])  # all take half a minute
    deploy.deploy([], work_pool="gpus")
    names = {deployment.name for deployment, _ in registered}
    assert {"demo", "stories", "a-corpus"} <= names
    assert {pool for _, pool in registered} == {"gpus"}
    assert len(printed.getvalue().splitlines()) == len(registered)


def test_automations_are_made_where_a_file_is_named(
    registered: list[tuple[Any, str]], printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(automations, "create", lambda file, url: asked.append((file, url)) or ["failed runs"])
    deploy.deploy([str(RECIPE)])
    assert not asked
    deploy.deploy([str(RECIPE)], automations=Path("some.yaml"), notify="https://here")
    assert asked == [(Path("some.yaml"), "https://here")]
    assert printed.getvalue().splitlines()[-1] == "automation failed runs"


def test_a_schedule_says_its_next_three_times(registered: list[tuple[Any, str]], printed: io.StringIO) -> None:
    deploy.schedule(str(RECIPE), ["distill.steps=7"], cron="30 2 * * *", name="nightly")
    ((deployment, pool),) = registered
    assert (deployment.name, pool) == ("nightly", "imbik")
    assert deployment.parameters["recipe"]["distill"]["steps"] == 7
    said = printed.getvalue()
    assert said.startswith(f"{deployment.full_name} runs ") and said.count("02:30") == 3 and said.count("\n") == 1


def test_a_schedule_of_a_recipe_has_its_name(registered: list[tuple[Any, str]], printed: io.StringIO) -> None:
    deploy.schedule(str(RECIPE), every=30)
    assert [deployment.name for deployment, _ in registered] == [RECIPE.stem]


def test_schedules_are_a_table(
    registered: list[tuple[Any, str]], printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "listed", lambda: [("nightly", "every day", "at two", "3")])
    deploy.schedules()
    assert all(word in printed.getvalue() for word in ("deployment", "late", "nightly", "every day", "at two", "3"))


@pytest.mark.parametrize(("count", "told"), [(0, "0 schedules"), (1, "1 schedule"), (2, "2 schedules")])
def test_removed_schedules_are_counted(
    count: int, told: str, registered: list[tuple[Any, str]], printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "remove", lambda name: count)
    deploy.unschedule("nightly")
    assert printed.getvalue() == f"{told} of nightly removed; the deployment stays\n"


@pytest.mark.parametrize("of", ["environment", "imbik up"])
def test_the_server_is_the_environments_or_the_stores(
    of: str, registered: list[tuple[Any, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(server, "check_reachable", asked.append)
    monkeypatch.setattr("tasks.tracking.servers.services", lambda root: {"prefect": "http://stores/api"})
    if of == "imbik up":
        monkeypatch.delenv("PREFECT_API_URL")
    wanted = URL if of == "environment" else "http://stores/api"
    assert deploy._connect(tmp_path) == tmp_path
    assert asked == [wanted] and os.environ["PREFECT_API_URL"] == wanted


def test_no_server_is_told_with_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ValueError, match=f"no Prefect server is configured; .* `imbik up --store {tmp_path}`"):
        deploy._connect(tmp_path)


def test_paths_of_a_recipe_start_here_in_this_machines_pool_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert deploy._work("imbik") == deployments.place(tmp_path) and deploy._work("imbik")
    assert deploy._work("gpus") == {}


def test_a_cluster_file_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("slurm", "mine.yaml"):
        (tmp_path / name).touch()
    assert deploy._placed("slurm") == "slurm", "a folder of this name is no cluster file"
    assert deploy._placed("mine.yaml") == str(tmp_path / "mine.yaml")
