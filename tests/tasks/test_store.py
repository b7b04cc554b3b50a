"""The store: artifacts that are whole or not there, one build for many askers, and disks that cannot be written."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.spec import Record
from tasks.store.store import RECORD, Store, StoreError
from tests.fixtures.flow import RECIPE, imbik


def record(stage: str = "prune", key: str = "k") -> Record:
    return Record(
        stage=stage,
        key=key,
        revision=1,
        config={},
        hashed={},
        inputs={},
        files={},
        seconds=1.0,
        created="2026-01-01T00:00:00",
        versions={},
        commit=None,
        run={},
    )


def sealed(store: Store, text: str = "weights", key: str = "k") -> Path:
    store.create()
    work = store.work("prune", key)
    (work / "model").mkdir(parents=True)
    (work / "model" / "model.safetensors").write_text(text)
    return Path(store.seal(record(key=key)).path)


def test_a_sealed_artifact_is_found_with_its_digests(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("prune", "k") is None
    path = sealed(store)
    found = Store(tmp_path).find("prune", "k")
    assert found is not None
    assert found.path == str(path)
    assert list(found.record.files) == ["model/model.safetensors"]
    assert not store.work("prune", "k").exists()


def test_unsealed_work_is_invisible_and_kept_for_retry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    work = store.work("prune", "k")
    work.mkdir(parents=True)
    (work / "artifact.json.partial").write_text("{")
    assert Store(tmp_path).find("prune", "k") is None
    assert work.is_dir()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_seen_and_set_aside(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = sealed(Store(tmp_path)) / "model" / "model.safetensors"
    if damage == "flip":
        file.write_text("Weights")
    elif damage == "cut":
        file.write_text("weight")
    else:
        file.unlink()
    assert Store(tmp_path).find("prune", "k") is None
    assert "is damaged" in capsys.readouterr().out
    assert list((tmp_path / ".work").glob("damaged-prune-k-*/model")), "kept to be looked at"
    sealed(Store(tmp_path))
    assert Store(tmp_path).find("prune", "k") is not None


@pytest.mark.parametrize("record_left", [None, "", "{", '{"stage": "prune"}'])
def test_artifact_without_record_is_rebuilt(tmp_path: Path, record_left: str | None) -> None:
    path = sealed(Store(tmp_path))
    (path / RECORD).unlink()
    if record_left is not None:
        (path / RECORD).write_text(record_left)
    assert Store(tmp_path).records("prune") == []
    assert Store(tmp_path).find("prune", "k") is None
    assert list((tmp_path / ".work").glob("damaged-prune-k-*/model"))
    sealed(Store(tmp_path))
    assert Store(tmp_path).find("prune", "k") is not None


def test_crash_before_rename_publishes_nothing(tmp_path: Path) -> None:
    """Every file and the record are written when the process dies; still the artifact does not exist."""
    child = multiprocessing.get_context("fork").Process(target=_die_before_rename, args=(tmp_path,))
    child.start()
    child.join(30)
    assert child.exitcode == KILLED
    work = Store(tmp_path).work("prune", "k")
    assert (work / RECORD).is_file()
    assert not Store(tmp_path).path("prune", "k").exists()
    assert Store(tmp_path).find("prune", "k") is None
    assert Store(tmp_path).records("prune") == []
    (work / "more").write_text("of the retry")
    artifact = Store(tmp_path).seal(record())
    assert set(artifact.record.files) == {
        "model/model.safetensors",
        "more",
    }, "the left record is no file of the artifact"


KILLED = 77


def _die_before_rename(root: Path) -> None:
    Path.rename = lambda *_: os._exit(KILLED)  # type: ignore[method-assign, assignment, misc]
    sealed(Store(root))


def test_scratch_is_not_sealed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    (store.work("prune", "k") / "checkpoints" / "step-1").mkdir(parents=True)
    (store.work("prune", "k") / "checkpoints" / "step-1" / "state").write_text("large")
    (store.work("prune", "k") / "kept").write_text("small")
    artifact = store.seal(record(), ignore=("checkpoints",))
    assert sorted(path.name for path in Path(artifact.path).iterdir()) == [RECORD, "kept"]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    Store(tmp_path).create()
    child = multiprocessing.get_context("fork").Process(target=_die_holding_the_lock, args=(tmp_path,))
    child.start()
    child.join(30)
    assert child.exitcode == KILLED
    with Store(tmp_path).lock("prune", "k"):
        pass


def _die_holding_the_lock(root: Path) -> None:
    with Store(root).lock("prune", "k"):
        os._exit(KILLED)


def _build(root: str, entered: Any) -> None:
    store = Store(Path(root))
    with store.lock("prune", "k"):
        if store.find("prune", "k") is None:
            with entered.get_lock():
                entered.value += 1
            sealed(store)


def test_of_many_processes_one_builds(tmp_path: Path) -> None:
    Store(tmp_path).create()
    context = multiprocessing.get_context("fork")
    entered = context.Value("i", 0)
    processes = [context.Process(target=_build, args=(str(tmp_path), entered)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert entered.value == 1


def test_digests_follow_content_and_not_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("one")
    first = store.digest(folder)
    os.utime(folder / "a", (1, 1))
    assert store.digest(folder) == first
    (folder / "a").write_text("two")
    second = store.digest(folder)
    (folder / "a").rename(folder / "b")
    third = store.digest(folder)
    assert len({first, second, third}) == 3
    (folder / "sub").mkdir()
    (folder / "b").rename(folder / "sub" / "b")
    assert store.digest(folder) not in {first, second, third}, "names and places count"
    with pytest.raises(StoreError, match="does not exist; check the path"):
        store.digest(tmp_path / "nowhere")


def test_a_file_rewritten_and_dated_back_is_still_read_again(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "model.safetensors"
    store.create()
    file.write_text("one")
    before, first = file.stat(), store.digest(file)
    with file.open("r+") as stream:
        stream.write("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.digest(file) != first


def test_only_the_files_that_were_asked_for_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("one")
    first = store.digest(tmp_path, only=("tokenizer.json",))
    (tmp_path / "model.safetensors").write_text("two")
    assert store.digest(tmp_path, only=("tokenizer.json",)) == first
    (tmp_path / "tokenizer.json").write_text("two")
    assert store.digest(tmp_path, only=("tokenizer.json",)) != first


def test_what_only_looks_keeps_no_digests(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "text"
    store.create()
    file.write_text("one")
    digest = Store(tmp_path / "store", writes=False).digest(file)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".work"]
    assert store.digest(file) == digest
    assert (tmp_path / "store" / "digests.json").is_file()


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory of its own; `chmod` would not stop root."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs root and mount ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that cannot be written, not even by root."""
    yield from mounted(tmp_path, "ro")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system with no room left."""
    for folder in mounted(tmp_path, "size=64k"):
        (folder / "ballast").write_bytes(b"")
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        yield folder


def test_a_read_only_store_says_so(read_only: Path) -> None:
    with pytest.raises(
        StoreError, match=r"is not writable: the file system is read-only; remount it or choose another --store"
    ):
        Store(read_only / "store").create()


def test_the_command_says_so_in_one_sentence(read_only: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("beside") / "store"
    link.symlink_to(read_only / "store")
    done = imbik("run", str(RECIPE), store=link, alone=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"imbik: the store {link} is not writable: ")
    assert "choose another --store" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert imbik("plan", str(RECIPE), store=link).returncode == 0, "looking needs no writing"


def test_a_full_disk_says_so_and_a_digest_needs_no_room(full: Path) -> None:
    with pytest.raises(StoreError, match=r"is not writable: the disk is full; free space or choose another --store"):
        Store(full / "store").create()
    assert Store(full).digest(full / "ballast") == Store(full.parent / "other").digest(full / "ballast")
    assert [path.name for path in full.iterdir() if path.is_file()] == ["ballast"]


def test_a_store_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(StoreError, match=r"is not writable: Not a directory; .* choose another --store"):
        Store(tmp_path / "store").create()
    assert (tmp_path / "store").read_text() == "mine"


@pytest.mark.parametrize("name", ["wh?t", "two\nlines"])
def test_path_that_no_address_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=r"question mark or a control character in its path.* choose another --store"):
        Store(tmp_path / name).create()
    assert not (tmp_path / name).exists()


def as_nobody(action: Callable[[], object]) -> str:
    """What `action` raises in a process of another user who is in the group of root's files; empty: nothing."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([0])
            os.setgid(65534)
            os.setuid(65534)
            action()
            said = ""
        except BaseException as error:  # noqa: BLE001 - the child must end here
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        return stream.read()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A store of root, in a folder that its group may write to and others may enter."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "store").mkdir()
    (folder / "store").chmod(0o2775)
    before = os.umask(0o022)
    yield folder / "store"
    os.umask(before)
    shutil.rmtree(folder)


def test_group_shares_a_store(shared: Path) -> None:
    store = Store(shared)
    store.create()
    with store.lock("data", "k"):
        (shared / "data").mkdir()

    def second() -> None:
        Store(shared).create()
        (shared / "data" / "mine").mkdir()
        with store.lock("data", "k"):
            pass

    assert as_nobody(second) == ""
    assert (shared / "data" / "mine").stat().st_mode & 0o070 == 0o070, "the first user can write there too"


def test_lock_of_another_user_can_be_held(shared: Path) -> None:
    store = Store(shared)
    store.create()
    (shared / ".work" / "data-k.lock").touch(0o644)
    (shared / ".work" / "data-k.lock").chmod(0o644)

    def second() -> None:
        with store.lock("data", "k"):
            pass

    assert as_nobody(second) == ""


@pytest.mark.parametrize("made", ["mlflow.db", "prefect/prefect.db"])
def test_store_of_another_user_is_refused_in_one_sentence(shared: Path, made: str) -> None:
    (shared / "prefect").mkdir(mode=0o775)
    (shared / "prefect").chmod(0o2775)
    (shared / made).touch()
    (shared / made).chmod(0o644)
    said = as_nobody(lambda: Store(shared).create())
    assert said == (
        f"StoreError: {shared / made} belongs to root and is not writable for you; to share the store, its owner runs"
        f" `chmod -R g+rwX {shared}`, or choose another --store"
    )
