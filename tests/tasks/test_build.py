"""A stage is looked up, or made by one of those who want it; whatever happens is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import LOCAL
from conf.stages.data import DataConfig
from tasks import build
from tasks.launch.errors import JobFailed, Stopped
from tasks.monitor import prefect_pages
from tasks.session import Session, current
from tasks.store.store import Artifact, StoreError

CONFIG = DataConfig(source="world")
MADE = Artifact(stage="data", key="k", path="/store/data/k")


class Told:
    """A board, a tracker and a store in one: `there` from which look-up on the artifact is found."""

    def __init__(self, root: Path, there: int) -> None:
        self.root, self.there, self.said, self.looked = root, there, list[Any](), 0

    def set(self, label: str, state: str) -> None:
        self.said.append(state)

    def failed(self, label: str, sentence: str, stopped: bool) -> None:
        self.said.append((sentence, stopped))

    def stage(self, label: str, artifact: Artifact, cached: bool) -> None:
        self.said.append(("cached" if cached else "new", artifact.key))

    def find(self, stage: str, key: str) -> Artifact | None:
        self.looked += 1
        return MADE if self.looked >= self.there else None

    @contextlib.contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        yield


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens a session in which the artifact is found from a look-up on."""
    monkeypatch.setattr(prefect_pages, "link_mlflow", lambda session: None)
    monkeypatch.setattr(prefect_pages, "cached", lambda artifact: ("cached", artifact))
    tokens = []

    def opening(there: int) -> tuple[Told, Session]:
        told: Any = Told(tmp_path, there)
        launcher: Any = None
        session = Session(name="mine", store=told, launcher=launcher, board=told, tracker=told, cluster=LOCAL)
        tokens.append(current.set(session))
        return told, session

    yield opening
    for token in reversed(tokens):
        current.reset(token)


def test_what_is_in_the_store_is_not_made(opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_make", lambda *given: pytest.fail("it was made"))
    told, session = opened(1)
    assert build.build("data", CONFIG, {}) == ("cached", MADE)
    assert told.said == ["cached", ("cached", "k")] and session.stages == {"data": (MADE, True)}
    link = tmp_path / "runs" / "mine" / "data"
    assert link.is_symlink() and str(link.readlink()) != MADE.path and str(link.resolve()) == MADE.path
    told, _ = opened(2)
    assert build.build("data", CONFIG, {}) == ("cached", MADE), "another process made it while this one waited"
    assert told.said == ["waiting", "cached", ("cached", "k")]


def test_what_is_not_there_is_made_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_make", lambda *given: MADE)
    told, session = opened(3)
    assert build.build("data", CONFIG, {}) == MADE
    assert told.said == ["waiting", "done", ("new", "k")] and session.stages == {"data": (MADE, False)}


@pytest.mark.parametrize(
    ("error", "state"),
    [(JobFailed("it\nfailed"), "failed"), (Stopped("stopped"), "stopped"), (KeyboardInterrupt(), "stopped")],
)
def test_a_stage_that_failed_is_told_apart_from_a_stopped_one(
    error: BaseException, state: str, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Artifact:
        raise error

    monkeypatch.setattr(build, "_make", fails)
    told, session = opened(3)
    with pytest.raises(type(error)):
        build.build("data", CONFIG, {})
    assert told.said == ["waiting", state, (" ".join(str(error).split()), state == "stopped")]
    assert not session.stages and not (tmp_path / "runs").exists()


def making(root: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> list[Any]:
    """What is sealed when the launcher does `run`."""
    sealed: list[Any] = []
    session = SimpleNamespace(
        store=SimpleNamespace(
            work=lambda stage, key: root / "work", seal=lambda record, ignore: sealed.append(record), root=root
        ),
        board=SimpleNamespace(set=lambda *told: None),
        tracker=SimpleNamespace(begin=lambda *told: None, ids=lambda: {"flow": "f"}),
        cluster=LOCAL,
        launcher=SimpleNamespace(run=run),
    )
    ended: list[bool] = []
    listener = SimpleNamespace(follow=None, state=None, ended=lambda: ended.append(True))
    monkeypatch.setattr(build, "StageListener", lambda board, label: listener)
    inputs = {"source": Artifact(stage="source", key="s", path="/text")}
    try:
        build._make(session, "data", "k", CONFIG, inputs)  # type: ignore[arg-type]
    finally:
        assert ended == [True]
    return sealed


def test_a_record_says_what_made_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(spec: Any, parallel: Any, follow: Any, begin: Any, listener: Any) -> None:
        begin()
        assert spec.inputs == {"source": "/text"} and spec.output == str(tmp_path / "work")
        for name in CONFIG.writes:
            Path(spec.output, name).parent.mkdir(exist_ok=True)
            Path(spec.output, name).touch()

    (record,) = making(tmp_path, monkeypatch, run)
    assert (record.stage, record.key, record.inputs, record.run) == ("data", "k", {"source": "s"}, {"flow": "f"})
    assert [attempt.reason for attempt in record.attempts] == ["done"]
    assert 0 <= record.seconds < 5 and {"torch", "prefect"} <= record.versions.keys()


def test_a_job_that_left_a_file_out_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="data succeeded but did not write"):
        making(tmp_path, monkeypatch, lambda spec, parallel, follow, begin, listener: begin())


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=rf"^data: No space left on device \({tmp_path}\); free space"):
        making(tmp_path, monkeypatch, run)


@pytest.mark.parametrize(("printed", "commit"), [("0123456789ab-dirty\n", "0123456789ab-dirty"), ("", None)])
def test_the_commit_is_that_of_this_checkout(printed: str, commit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout=printed)

    monkeypatch.setattr(build, "subprocess", SimpleNamespace(run=run))
    assert build.commit.__wrapped__() == commit
    assert asked[0][:3] == ["git", "-C", str(Path(__file__).parents[2])] and "--dirty" in asked[0]


def test_versions_are_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "VERSIONED", ("pytest", "not installed here"))
    assert build.versions.__wrapped__() == {"pytest": pytest.__version__}
