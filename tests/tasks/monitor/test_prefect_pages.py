"""States, bars and pages in Prefect's UI, without a server."""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tasks.monitor import prefect_pages as pages

LOW, HIGH = UUID(int=2**127 - 1), UUID(int=2**127)
"""The last id of the second half of a page, and the first of the first."""


def session(**cached: bool) -> Any:
    return SimpleNamespace(stages={label: (None, was) for label, was in cached.items()})


@pytest.mark.parametrize(
    ("stages", "name", "message"),
    [
        ({"a": True, "b": True}, "Cached", "settings are unchanged, and all 2 stages were in the store."),
        ({"a": False, "b": True, "c": False}, "Completed", "Built 2 of 3 stages: a, c. The others were in the store."),
        ({"a": False}, "Completed", "Built 1 of 1 stages: a."),
    ],
)
def test_the_state_of_a_run_says_what_was_built(stages: dict[str, bool], name: str, message: str) -> None:
    state: Any = pages.ended("value", session(**stages))
    assert state.name == name and str(state.message).endswith(message)


def test_the_state_of_a_cached_stage_names_its_artifact() -> None:
    state: Any = pages.cached(SimpleNamespace(stage="distill", key="k"))  # type: ignore[arg-type]
    assert (state.name, state.message) == ("Cached", "already in the store: distill/k")


class Shown:
    """Prefect's progress artifacts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shares: list[float] = []
        self.made = 0
        self.now = 100.0
        self.broken = False
        monkeypatch.setattr("prefect.artifacts.create_progress_artifact", self.create)
        monkeypatch.setattr("prefect.artifacts.update_progress_artifact", self.update)
        monkeypatch.setattr(pages.time, "monotonic", lambda: self.now)

    def create(self, share: float, key: str, description: str) -> UUID:
        self.made += 1
        if self.broken:
            raise OSError
        assert (key, description) == ("progress-distill-small-b", "distill small_B")
        self.shares.append(share)
        return LOW

    def update(self, bar: UUID, share: float) -> None:
        self.shares.append(share)


def test_a_bar_moves_every_two_seconds_and_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, bar = Shown(monkeypatch), pages.Bar("distill small_B")
    bar.move(1, None)
    bar.move(1, 0)
    bar.move(1, 8)
    shown.now += 1.9
    bar.move(2, 8)
    shown.now += 0.1
    bar.move(3, 8)
    bar.move(8, 8)
    bar.move(9, 8)
    assert (shown.shares, shown.made) == ([12.5, 37.5, 100.0, 100.0], 1)


def test_a_bar_without_a_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, bar = Shown(monkeypatch), pages.Bar("x")
    shown.broken = True
    bar.move(1, 8)
    shown.now += 1e6
    bar.move(2, 8)
    assert shown.made == 1 and bar._next == float("inf")


FLOW = UUID(int=7)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prefect's client in a flow run with tags; what it is asked for."""
    asked = SimpleNamespace(deleted=[], tags=["mark", "cluster:old", "model:a/b"], made=[], broken=False)

    def create(artifact: Any) -> Any:
        asked.made.append(artifact)
        if asked.broken:
            raise OSError
        return SimpleNamespace(id=LOW)

    known = {
        "delete_artifact": asked.deleted.append,
        "create_artifact": create,
        "read_flow_run": lambda run: SimpleNamespace(tags=asked.tags) if run == FLOW else None,
        "update_flow_run": lambda run, tags: setattr(asked, "tags", tags),
    }

    @contextlib.contextmanager
    def client(sync_client: bool) -> Iterator[Any]:
        assert sync_client
        yield SimpleNamespace(**known)

    monkeypatch.setattr("prefect.client.orchestration.get_client", client)
    monkeypatch.setattr("prefect.runtime.flow_run.id", str(FLOW), raising=False)
    return asked


def test_a_bar_is_put_away_once(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Shown(monkeypatch)
    bar = pages.Bar("distill small_B")
    bar.put_away()
    assert server.deleted == [], "it was never there"
    bar.move(1, 8)
    for _ in range(2):
        bar.put_away()
    bar.move(8, 8)
    assert server.deleted == [LOW]


def test_tags_replace_those_of_their_kind(server: Any) -> None:
    pages.tag("cluster:slurm", "model:c")
    assert server.tags == ["cluster:slurm", "mark", "model:c"]


def test_a_page_in_mlflow_is_linked_once(server: Any) -> None:
    links = iter(["", "http://mlflow/run", "http://mlflow/run", "http://mlflow/run"])
    run: Any = SimpleNamespace(name="a_b", tracker=SimpleNamespace(link=lambda: next(links)), linking=threading.Lock())
    pages.link_mlflow(run)
    assert server.made == [], "it is not there yet"
    server.broken = True
    pages.link_mlflow(run)
    server.broken = False
    for _ in range(2):
        pages.link_mlflow(run)
    assert len(server.made) == 2, "tried again after a failure, and not after a success"
    made = server.made[-1]
    assert (made.key, made.type, made.flow_run_id) == ("mlflow", "markdown", FLOW)
    assert made.data.endswith("](http://mlflow/run)") and made.description == "a_b in MLflow"


@pytest.mark.parametrize(
    ("first", "ids", "kept"), [(True, [LOW, LOW, HIGH], HIGH), (False, [HIGH, LOW], LOW), (True, [HIGH], HIGH)]
)
def test_an_artifact_gets_an_id_of_its_half(
    first: bool, ids: list[UUID], kept: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[UUID] = []

    @contextlib.contextmanager
    def client(sync_client: bool) -> Iterator[Any]:
        assert sync_client
        yield SimpleNamespace(delete_artifact=there.remove)

    monkeypatch.setattr("prefect.client.orchestration.get_client", client)
    left = iter(ids)

    def create() -> UUID:
        there.append(next(left))
        return there[-1]

    pages._placed(create, first=first)
    assert there == [kept] and not list(left)


def test_after_twenty_tries_any_place_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[UUID] = []

    @contextlib.contextmanager
    def client(sync_client: bool) -> Iterator[Any]:
        assert sync_client
        yield SimpleNamespace(delete_artifact=deleted.append)

    monkeypatch.setattr("prefect.client.orchestration.get_client", client)
    made: list[UUID] = []
    pages._placed(lambda: made.append(LOW) or LOW, first=True)  # type: ignore[func-returns-value]
    assert (len(made), len(deleted)) == (20, 19)


def record(error: Exception | None, text: str = "it crashed") -> logging.LogRecord:
    raised = (type(error), error, None) if error else None
    return logging.LogRecord("x", logging.ERROR, "", 0, text, (), raised)


def test_known_errors_are_logged_as_one_sentence() -> None:
    only = pages._OneSentence((KeyError,))
    known, other = record(KeyError("a\n  b")), record(ValueError("c"))
    assert only.filter(known) and only.filter(other)
    assert (known.getMessage(), known.exc_info) == ("'a\\n b'", None)
    assert other.getMessage() == "it crashed" and other.exc_info
    assert not only.filter(record(None, "Please wait for all submitted tasks to complete before"))


def test_figures_are_put_in_place_of_their_links(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.svg").write_bytes(b"<svg/>")
    (tmp_path / "plots" / "b.png").write_bytes(b"x")
    shown = pages.with_pictures("![A](plots/a.svg) ![B](plots/b.png) plots/a.svg", tmp_path)
    data = base64.b64encode(b"<svg/>").decode()
    assert shown == f"![A](data:image/svg+xml;base64,{data}) ![B](plots/b.png) plots/a.svg"


def test_keys_have_the_signs_that_prefect_takes() -> None:
    assert pages._key("Scores of Small_2.fp8") == "scores-of-small-2-fp8"
