"""What a session does at its end, however its run ended, and when its worker is gone."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from flows import session as module
from tasks.launch.errors import JobFailed
from tasks.session import current


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What launcher and tracker were told, with stand-ins for both."""
    heard: list[Any] = []
    launcher = SimpleNamespace(stop=lambda: heard.append("stopped"))
    tracker = SimpleNamespace(close=lambda **ended: heard.append(ended))
    monkeypatch.delenv(module.WORKER, raising=False)
    monkeypatch.setattr(module, "settle", lambda: None)
    monkeypatch.setattr(module, "Launchers", lambda *_: launcher)
    monkeypatch.setattr(module, "Tracker", lambda *_, **__: tracker)
    monkeypatch.setattr(module.prefect_pages, "link_mlflow", lambda _: heard.append("linked"))
    return heard


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (None, {"failed": False, "stopped": False}),
        (JobFailed("no"), {"failed": True, "stopped": False}),
        (KeyboardInterrupt(), {"failed": True, "stopped": True}),
    ],
)
def test_a_session_says_how_its_run_ended(
    error: BaseException | None, ended: dict[str, bool], told: list[Any], tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with (
        contextlib.suppress(*([type(error)] if error else [])),
        module.open_session("r", tmp_path, {}, LOCAL) as session,
    ):
        assert current.get() is session and told == []
        if error:
            raise error
    assert told == ["stopped", ended, "linked"]
    assert current.get(None) is None and signal.getsignal(signal.SIGTERM) is handler


def test_sigterm_is_ignored_while_a_session_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with module._undisturbed(1):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is before

    def elsewhere() -> None:
        with module._undisturbed(1):
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[Any] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before], "only a main thread may set handlers"


def test_a_run_ends_some_time_after_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, slept, codes = iter([7, 7, 1]), list[float](), list[int]()
    monkeypatch.setattr(module.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(module.os, "_exit", codes.append)
    module._end_without(7)
    assert slept[-1] == module.ORPHAN_SECONDS >= 10 and len(slept) == 3
    assert codes == [143], "as if SIGTERM had ended it"


@pytest.mark.parametrize("worker", ["", "1"])
def test_only_a_workers_run_ends_with_it(worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.WORKER, worker)
    asked: list[Any] = []
    monkeypatch.setattr(module, "die_with_parent", asked.append)
    monkeypatch.setattr(module, "_end_without", asked.append)
    parent = module._end_with_worker()
    assert asked == ([signal.SIGTERM] if worker else [])
    with module._undisturbed(parent):
        pass
    for thread in threading.enumerate():
        if thread.name == "worker":
            thread.join()
    assert asked[1:] == ([parent] if worker else [])


def test_clusters_by_name_are_tags() -> None:
    assert module.tags_of("slurm") == module.tags_of("/etc/slurm.yaml") == ["cluster:slurm"]
    assert module.tags_of(LOCAL) == []
    assert module.resolve_cluster(LOCAL) is LOCAL and module.resolve_cluster("local") == LOCAL


def test_a_process_has_one_board() -> None:
    assert module.board() is module.board()
