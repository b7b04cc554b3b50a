"""A store's databases: whole or not there, once for an installation, the store's own where the installation takes
nothing."""

from __future__ import annotations

import sqlite3
import sys
import threading
from pathlib import Path

import pytest

from tasks.store import databases

TABLES = {"prefect": "flow_run", "mlflow": "runs"}


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the libraries, which count how often they make a database; the folder of the installation."""
    program = "import os, sqlite3, pathlib, sys; c = sqlite3.connect(os.environ['URL'].removeprefix('sqlite:///'))\n"
    program += (
        "c.execute('CREATE TABLE experiments (x)'); c.execute('INSERT INTO experiments VALUES (1)'); c.commit()\n"
    )
    program += f"pathlib.Path({str(tmp_path / 'made')!r}).open('a').write('x')"
    monkeypatch.setattr(databases, "MAKING", {kind: [sys.executable, "-c", program] for kind in databases.MAKING})
    monkeypatch.setattr(databases, "EMPTY", tmp_path / "installation")
    return tmp_path


def rows(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT count(*) FROM experiments").fetchone()[0])


def test_it_is_made_once_for_all_stores(quick: Path) -> None:
    for store in ("one", "two"):
        (quick / store).mkdir()
        databases.ready(quick / store / "mlflow.db", "mlflow")
        assert rows(quick / store / "mlflow.db") == 0, "an experiment of another folder would name that folder"
    assert (quick / "made").read_text() == "x"
    with sqlite3.connect(quick / "one" / "mlflow.db") as database:
        database.execute("INSERT INTO experiments VALUES (7)")
    databases.ready(quick / "one" / "mlflow.db", "mlflow")
    assert rows(quick / "one" / "mlflow.db") == 1, "one that is there is not touched"


def test_store_creates_database_if_installation_is_read_only(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (quick / "file").touch()
    monkeypatch.setattr(databases, "EMPTY", quick / "file" / "below")
    databases.ready(quick / "mlflow.db", "mlflow")
    assert rows(quick / "mlflow.db") == 0


def test_what_a_killed_one_left_is_made_again(quick: Path) -> None:
    (quick / ".mlflow.db.123-4.partial").write_bytes(b"half a database")
    (quick / ".making-mlflow-abc").mkdir()
    (quick / ".making-prefect-abc").mkdir()
    databases.ready(quick / "mlflow.db", "mlflow")
    assert rows(quick / "mlflow.db") == 0
    assert not [path for path in quick.iterdir() if path.name.endswith(".partial")]
    assert [path.name for path in quick.glob(".making-*")] == [".making-prefect-abc"], "another may be making it"


def test_many_at_once_make_one(quick: Path) -> None:
    threads = [threading.Thread(target=databases.ready, args=(quick / "mlflow.db", "mlflow")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (quick / "made").read_text() == "x" and rows(quick / "mlflow.db") == 0


def test_a_library_that_fails_is_told_in_one_sentence(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "MAKING", {"prefect": [sys.executable, "-c", "raise SystemExit('no such table')"]})
    with pytest.raises(
        OSError, match="the prefect database could not be created \\(no such table\\); run the same command again"
    ):
        databases.ready(quick / "prefect.db", "prefect")
    assert not (quick / "prefect.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prefect", "mlflow"])
def test_the_libraries_make_theirs(kind: databases.Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "EMPTY", tmp_path / "installation")
    databases.ready(tmp_path / "it.db", kind)
    with sqlite3.connect(tmp_path / "it.db") as database:
        assert database.execute(f"SELECT count(*) FROM {TABLES[kind]}").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
