"""The short form of Prefect's pages: what it runs, under which name, and how a mistake ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import short
from tests.fixtures.flow import RECIPE


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been run: the recipe, the run's name and its store."""
    found: list[Any] = []
    monkeypatch.setattr(short, "run_recipe", lambda recipe, name, store, cluster: found.append((recipe, name, store)))
    monkeypatch.setattr(short.prefect_pages, "tag", lambda *_: None)
    monkeypatch.setattr(short.prefect_pages, "failed", str)
    return found


@pytest.mark.parametrize(("given", "name"), [({}, "tiny"), ({"name": "mine"}, "mine")])
def test_a_run_has_its_name_or_that_of_its_preset(given: dict[str, str], name: str, ran: list[Any]) -> None:
    assert short.run.fn(preset=str(RECIPE), overrides=["teacher.steps=7"], store="there", **given) is None
    ((recipe, called, store),) = ran
    assert (called, store, recipe.teacher.steps) == (name, Path("there"), 7)


def test_a_mistake_is_told_and_nothing_runs(ran: list[Any]) -> None:
    told = short.run.fn(preset=str(RECIPE), overrides=["teacher.stepz=3"])
    assert "the nearest known key is steps" in told and ran == []
