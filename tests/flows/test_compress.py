"""What a run does around its pipeline: it prepares the launcher only for work, keeps its recipe before it starts, and
says how it ended. Plan, pipeline and report are made up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import State

from conf.cluster import LOCAL
from conf.load import load
from flows import compress
from tests.fixtures.flow import RECIPE


@pytest.mark.parametrize(
    ("model", "name"),
    [(None, "from-scratch"), ("/models/my-llama/", "my-llama"), ("Qwen/Qwen3-8B", "Qwen3-8B"), ("/", "/")],
)
def test_a_run_is_named_after_its_teacher(model: str | None, name: str) -> None:
    recipe: Any = SimpleNamespace(teacher=SimpleNamespace(model=model))
    assert compress.model_name(recipe) == name


class Told(list[str]):
    """What a run did, in order."""

    def note(self, what: str, value: Any = None) -> Any:
        """A function that notes that it was called."""
        return lambda *_, **given: (self.append(f"{what} ended={given['ended']}" if "ended" in given else what), value)[
            1
        ]


def ran(monkeypatch: pytest.MonkeyPatch, store: Path, cached: list[bool], closed: str | None) -> tuple[Any, Told]:
    """What `run_recipe` returns and does, with stages that are in the store or not, and a gate's sentence."""
    told = Told()
    session: Any = SimpleNamespace(
        store=SimpleNamespace(root=store), launcher=SimpleNamespace(prepare=told.note("prepare"))
    )

    @contextlib.contextmanager
    def opened(*_: Any) -> Iterator[Any]:
        yield session
        told.append("closed")

    monkeypatch.setattr(compress, "open_session", opened)
    monkeypatch.setattr(compress, "plan", lambda *_: [SimpleNamespace(cached=each) for each in cached])
    monkeypatch.setattr(compress.hub, "pin_revisions", lambda recipe, _: recipe)
    for place, name, value in (
        (compress, "check_fits", None),
        (compress, "resolve", None),
        (compress, "Pipeline", SimpleNamespace(models=[])),
        (compress.run_info, "keep", None),
        (compress.outcome, "report", closed),
        (compress.prefect_pages, "tag", None),
        (compress.prefect_pages, "ended", "the folder"),
    ):
        monkeypatch.setattr(place, name, told.note(name, value))
    return compress.run_recipe(load(str(RECIPE), ["evaluate.mmlu=null"]), "r", store, LOCAL), told


@pytest.mark.parametrize(("cached", "prepares"), [([True, True], False), ([True, False], True), ([False], True)])
def test_only_a_run_with_work_prepares_the_launcher(
    cached: list[bool], prepares: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, told = ran(monkeypatch, tmp_path, cached, None)
    assert result == "the folder"
    before = ["tag", "check_fits", *(["prepare"] if prepares else [])]
    assert told == [*before, "keep ended=False", "resolve", "Pipeline", "report", "ended", "closed"]


def test_a_closed_gate_is_how_a_run_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, told = ran(monkeypatch, tmp_path, [True], "gate g: failed")
    assert isinstance(result, State) and result.is_completed()
    assert (result.name, result.message) == ("Stopped by a gate", "gate g: failed")
    assert "ended" not in told
