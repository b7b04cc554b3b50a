"""A store's databases: whole or not there, once for an installation, the store's own where the installation takes
nothing."""

from __future__ import annotations

import os
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
    program += "c.execute('CREATE TABLE alembic_version (x)')\n"
    program += "c.execute('INSERT INTO alembic_version VALUES (9)'); c.commit()\n"
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
@pytest.mark.parametrize("kind", [pytest.param("prefect", marks=pytest.mark.drill), "mlflow"])
def test_the_libraries_make_theirs(kind: databases.Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "EMPTY", tmp_path / "installation")
    databases.ready(tmp_path / "it.db", kind)
    with sqlite3.connect(tmp_path / "it.db") as database:
        assert database.execute(f"SELECT count(*) FROM {TABLES[kind]}").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


HALVES = {
    "not a database": lambda path: path.write_bytes(b"half of a page"),
    "empty": lambda path: path.touch(),
    "tables without a version": lambda path: tables(path, "CREATE TABLE runs (x)"),
    "an earlier version": lambda path: tables(
        path, "CREATE TABLE alembic_version (x)", "INSERT INTO alembic_version VALUES (7)", "CREATE TABLE runs (x)"
    ),
}


def tables(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize("half", HALVES)
def test_half_made_one_is_made_again(quick: Path, half: str, capsys: pytest.CaptureFixture[str]) -> None:
    HALVES[half](quick / "mlflow.db")
    databases.ready(quick / "mlflow.db", "mlflow")
    assert rows(quick / "mlflow.db") == 0
    (aside,) = quick.glob("mlflow.db.half-made-*")
    assert f"it was moved to {aside}" in capsys.readouterr().out


def test_old_one_with_runs_is_left_to_its_server(quick: Path) -> None:
    old = ("CREATE TABLE runs (x)", "INSERT INTO runs VALUES (1)", "CREATE TABLE alembic_version (x)")
    tables(quick / "mlflow.db", *old)
    before = (quick / "mlflow.db").read_bytes()
    databases.ready(quick / "mlflow.db", "mlflow")
    assert (quick / "mlflow.db").read_bytes() == before


def test_new_one_has_the_rights_of_other_files(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (quick / "file").touch()
    monkeypatch.setattr(databases, "EMPTY", quick / "file" / "below")  # so that SQLite writes it
    before = os.umask(0o002)
    try:
        databases.ready(quick / "mlflow.db", "mlflow")
    finally:
        os.umask(before)
    assert (quick / "mlflow.db").stat().st_mode & 0o777 == 0o664


PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def test_places_of_artifacts_follow_the_store(tmp_path: Path) -> None:
    store = tmp_path / "new #1 50%"
    store.mkdir()
    old, elsewhere = "file:///data/old/mlflow-artifacts", "s3://bucket/mine"
    kept = [elsewhere, "file:///data/old/mlflow-artifacts-of-others/a", None]
    with sqlite3.connect(store / "mlflow.db") as database:
        for table, column in PLACES.items():
            database.execute(f"CREATE TABLE {table} ({column} TEXT)")
            values = [(place,) for place in (old, f"{old}/0a/artifacts", *kept)]
            database.executemany(f"INSERT INTO {table} VALUES (?)", values)
    for _ in range(2):
        databases.settle_here(store / "mlflow.db")
        with sqlite3.connect(store / "mlflow.db") as database:
            for table, column in PLACES.items():
                found = [place for (place,) in database.execute(f"SELECT {column} FROM {table}")]
                here = (store / "mlflow-artifacts").as_uri()
                assert found == [here, f"{here}/0a/artifacts", *kept], table
