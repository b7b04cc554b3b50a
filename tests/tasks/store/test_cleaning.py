"""Removing runs and what no run needs: what is linked, registered or in use stays, and a killed removal leaves no
half."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.store import cleaning, use
from tasks.store.store import StoreError
from tests.fixtures.artifacts import write_record
from tests.fixtures.report import report, row

KEYS = {name: f"{number:032x}" for number, name in enumerate(("data", "teacher", "prune", "distill", "other"))}


def artifact(root: Path, stage: str, key: str, *inputs: str) -> Path:
    """A sealed artifact with one file of 1,000 bytes."""
    folder = root / stage / key
    write_record(folder, stage, key, {}, dict(zip("abc", inputs, strict=False)))
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"x" * 1000)
    return folder


def link(root: Path, run: str, label: str, folder: Path) -> Path:
    """A run's link to an artifact, as a run makes it."""
    here = root / "runs" / run
    here.mkdir(parents=True, exist_ok=True)
    (here / label).symlink_to(os.path.relpath(folder, here))
    return here


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a run that links the last of a chain of artifacts, and one artifact of nobody."""
    (tmp_path / ".work").mkdir()
    data = artifact(tmp_path, "data", KEYS["data"])
    teacher = artifact(tmp_path, "teacher", KEYS["teacher"], data.name)
    pruned = artifact(tmp_path, "prune", KEYS["prune"], teacher.name)
    artifact(tmp_path, "distill", KEYS["other"], teacher.name)
    link(tmp_path, "mine", "prune-depth", pruned)
    return tmp_path


def freed(root: Path, **options: bool) -> list[str]:
    """What cleaning would remove, by path in the store."""
    return [str(each.path.relative_to(root)) for each in cleaning.removable(root, **options)]


def test_what_a_run_links_and_its_inputs_stay(root: Path) -> None:
    assert freed(root) == [f"distill/{KEYS['other']}"]
    (removed,) = cleaning.clean(root)
    assert removed.bytes > 1000 and removed.why == "no run links it"
    assert not (root / "distill" / KEYS["other"]).exists()
    assert all((root / stage / KEYS[stage] / "model").is_dir() for stage in ("data", "teacher", "prune"))
    assert cleaning.clean(root) == [] and not list((root / ".work").glob("removed-*"))


def test_a_removed_runs_artifacts_can_be_freed(root: Path) -> None:
    link(root, "theirs", "teacher", root / "teacher" / KEYS["teacher"])
    assert cleaning.remove_run(root, "mine") == 1
    assert cleaning.names_of(root) == ["theirs"]
    assert (root / "prune" / KEYS["prune"]).is_dir(), "removing a run removes no artifact"
    assert freed(root) == [f"distill/{KEYS['other']}", f"prune/{KEYS['prune']}"]


def test_files_and_links_of_a_run_are_counted(root: Path) -> None:
    folder = root / "runs" / "mine"
    (folder / "published").mkdir()
    (folder / "report.json").write_text("{}")
    assert cleaning.remove_run(root, "mine") == 2, "its link to a folder and its report"


def test_what_is_freed_has_its_stage_and_exact_size(root: Path) -> None:
    work = root / ".work" / f"distill-{KEYS['distill']}"
    (work / "inner").mkdir(parents=True)
    (work / "inner" / "checkpoint").write_bytes(b"x" * 70)
    (work / "data").symlink_to(root / "data")
    link_bytes = len(str(root / "data"))
    found = {each.path: each for each in cleaning.removable(root, unfinished=True)}
    assert (found[work].stage, found[work].why, found[work].bytes) == ("distill", "not finished", 70 + link_bytes)


def test_a_link_out_of_the_store_is_no_artifact(root: Path, tmp_path: Path) -> None:
    link(root, "mine", "teacher", tmp_path.parent)
    assert freed(root) == [f"distill/{KEYS['other']}"]


def test_published_files_and_rows_of_a_report_keep_their_artifact(root: Path) -> None:
    cleaning.remove_run(root, "mine")
    published = root / "runs" / "mine" / "published" / "depth"
    published.mkdir(parents=True)
    file = root / "prune" / KEYS["prune"] / "model" / "model.safetensors"
    (published / file.name).symlink_to(os.path.relpath(file, published))
    other = root / "distill" / KEYS["other"]
    only = report(row("depth", "distill", student="depth").model_copy(update={"path": f"{other}/model"}), name="named")
    (root / "runs" / "named").mkdir()
    (root / "runs" / "named" / "report.json").write_text(only.model_dump_json())
    assert freed(root) == []


def test_a_registered_version_keeps_its_model(root: Path) -> None:
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("CREATE TABLE model_version_tags (name TEXT, version INT, key TEXT, value TEXT)")
        where = f"file://{root / 'distill' / KEYS['other']}/model"
        database.execute("INSERT INTO model_version_tags VALUES ('a', 1, 'imbik.uri', ?)", (where,))
    database.close()
    assert freed(root) == []
    (root / "mlflow.db").write_bytes(b"")
    assert freed(root) == [f"distill/{KEYS['other']}"]


def test_nothing_but_artifacts_is_touched(root: Path) -> None:
    for path in ("distill/notes.txt", "distill/mine/model.bin", "keep/this", "prefect/prefect.db", "digests.json"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("mine")
    cleaning.clean(root, unfinished=True)
    for path in ("distill/notes.txt", "distill/mine/model.bin", "keep/this", "prefect/prefect.db", "digests.json"):
        assert (root / path).read_text() == "mine"


def test_unfinished_work_goes_only_where_asked(root: Path) -> None:
    work, damaged = root / ".work" / f"distill-{KEYS['distill']}", root / ".work" / "damaged-distill-k-1"
    for folder in (work, damaged):
        folder.mkdir()
        (folder / "checkpoint").write_text("x")
    (root / ".work" / "distill-k.lock").write_text("")
    assert freed(root) == [f"distill/{KEYS['other']}", ".work/damaged-distill-k-1"]
    cleaning.clean(root)
    assert work.is_dir() and not damaged.exists()
    cleaning.clean(root, unfinished=True)
    assert not work.exists() and (root / ".work" / "distill-k.lock").exists()


def test_nothing_is_freed_while_a_run_uses_the_store(root: Path) -> None:
    with use.running(root, "mine"), use.running(root, "mine"):
        with pytest.raises(StoreError, match=r"runs are using the store .* \(mine\); wait until they have ended"):
            cleaning.clean(root)
        with pytest.raises(StoreError, match="run mine is running"):
            cleaning.remove_run(root, "mine")
        assert use.in_progress(root) == ["mine"]
        assert freed(root) == [f"distill/{KEYS['other']}"], "looking is always possible"
    assert use.in_progress(root) == []
    assert len(cleaning.clean(root)) == 1


def test_another_run_may_be_removed_while_one_runs(root: Path) -> None:
    with use.running(root, "theirs"):
        cleaning.remove_run(root, "mine")
    assert cleaning.names_of(root) == []


def test_a_killed_run_holds_nothing(root: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tasks.store import use\n"
        "with use.running(Path(sys.argv[1]), 'mine'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="run mine is running"):
        cleaning.remove_run(root, "mine")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    cleaning.remove_run(root, "mine")


@pytest.mark.parametrize("what", ["run", "artifact"])
def test_a_killed_removal_is_finished_by_the_next(what: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            cleaning.remove_run(root, "mine") if what == "run" else cleaning.clean(root)
    assert cleaning.names_of(root) == ([] if what == "run" else ["mine"])
    assert (root / "distill" / KEYS["other"]).exists() == (what == "run"), "moved away whole"
    assert "left by an interrupted removal" in {each.why for each in cleaning.clean(root)}
    assert not list(root.glob("*/*removed-*"))


def test_a_waiting_run_starts_after_the_cleaning(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.store import use\n"
        "print('asks', flush=True)\nwith use.running(Path(sys.argv[1]), 'mine'): print('runs', flush=True)"
    )
    with use.unused(root):
        process = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline() == "asks\n"
        time.sleep(0.3)
        assert process.poll() is None
    assert process.stdout.readline() == "runs\n"
    process.stdout.close()
    assert process.wait() == 0


@pytest.mark.parametrize("run", ["nope", "", ".", "..", "mine/..", "../runs/mine"])
def test_a_run_that_is_not_there_is_named(run: str, root: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no run .*; runs: mine"):
        cleaning.remove_run(root, run)
    assert (root / "runs" / "mine").is_dir()


def test_cleaning_no_store_makes_none(tmp_path: Path) -> None:
    assert cleaning.clean(tmp_path / "none") == [] == cleaning.removable(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_report_of_another_form_keeps_what_is_linked(root: Path) -> None:
    for content in ("[]", "{", json.dumps({"rows": [1, {"path": 3}]})):
        (root / "runs" / "mine" / "report.json").write_text(content)
        assert freed(root) == [f"distill/{KEYS['other']}"]
