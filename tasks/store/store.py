"""The store of artifacts: keys, locks, sealing, and digests of external inputs.

An artifact is a folder named by its content key, with `artifact.json` written last. It is built in a work folder with a
stable name, so that a retry finds the job's checkpoints. Equal keys mean the same recipe, not the same bytes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conf.base import Config, StageConfig
from conf.files import remove_partials, sha256, sync_folder, write_whole
from conf.paths import check_allowed
from conf.spec import File, Record
from tasks.store import sharing
from tasks.store.locks import held

RECORD = "artifact.json"


class Artifact(Config):
    """Output of a task: a stage's sealed folder, or an external folder with its digest as the key."""

    stage: str
    key: str
    path: str

    @property
    def record(self) -> Record:
        """The record of a sealed artifact."""
        return Record.model_validate_json((Path(self.path) / RECORD).read_text(encoding="utf-8"))


class StoreError(ValueError):
    """The store cannot be used; the message has the next step."""


def key_of(stage: str, config: StageConfig, inputs: dict[str, str]) -> str:
    """Content key: sha256 of the stage, its revision, the identity of its config and the keys of its inputs, without
    those that only shorten the way."""
    hashed = {role: key for role, key in inputs.items() if role not in config.shortcuts}
    content = {"stage": stage, "revision": config.revision, "config": config.identity(), "inputs": hashed}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()[:32]


class Store:
    """Artifacts under one folder. Safe for concurrent processes: one builds an artifact, the others wait for it."""

    def __init__(self, root: Path, *, writes: bool = True) -> None:
        """`writes=False` is read-only: digests are not cached either."""
        self.root, self.writes = root.absolute(), writes
        self._sound: set[str] = set()

    def create(self) -> None:
        """Create the folder. Raises StoreError if it is not writable, or its path cannot be part of a database's
        address."""
        check_allowed(self.root)
        if "?" in str(self.root) or not str(self.root).isprintable():
            raise StoreError(
                f"the store {str(self.root)!r} has a question mark or a control character in its path, which addresses"
                " of databases cannot hold; rename the folder or choose another --store"
            )
        sharing.join(self.root)
        probe = self.root / ".work" / f".probe-{os.getpid()}"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            try:
                probe.write_text("a full disk still takes empty files")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            reason = {
                errno.ENOSPC: "the disk is full; free space",
                errno.EROFS: "the file system is read-only; remount it",
            }
            advice = reason.get(error.errno or 0, f"{error.strerror}; check its permissions")
            raise StoreError(f"the store {self.root} is not writable: {advice} or choose another --store") from error
        if foreign := sharing.unwritable(self.root):
            raise StoreError(
                f"{foreign} belongs to {sharing.owner(foreign)} and is not writable for you; to share the store, its"
                f" owner runs `chmod -R g+rwX {shlex.quote(str(self.root))}`, or choose another --store"
            )

    def path(self, stage: str, key: str) -> Path:
        """Folder of an artifact."""
        return self.root / stage / key

    def work(self, stage: str, key: str) -> Path:
        """Folder in which an artifact is built; the same for every attempt."""
        return self.root / ".work" / f"{stage}-{key}"

    def find(self, stage: str, key: str) -> Artifact | None:
        """The sealed artifact, or None if it is missing or damaged; digests of its files are verified on first use in
        this process."""
        path = self.path(stage, key)
        if not path.exists():
            return None
        if str(path) not in self._sound:
            record = read_record(path / RECORD)
            damage = _damage(path, record) if record else f"{RECORD} is missing or cannot be read"
            if damage:
                aside = self.root / ".work" / f"damaged-{stage}-{key}-{time.time_ns()}"
                with contextlib.suppress(FileNotFoundError):  # another process found the damage at the same time
                    path.rename(aside)
                print(f"{path} is damaged ({damage}); it was moved to {aside} and will be built again")
                return None
            self._sound.add(str(path))
        return Artifact(stage=stage, key=key, path=str(path))

    @contextlib.contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock for building an artifact; the kernel releases it when the process ends."""
        with held(self.root / ".work" / f"{stage}-{key}.lock"):
            yield

    def seal(self, record: Record, ignore: tuple[str, ...] = ()) -> Artifact:
        """Publish the work folder: hash and sync every file, write the record last, rename. Nothing is visible before
        the rename.

        Folders in `ignore` are the job's scratch and are removed first.
        """
        work, final = self.work(record.stage, record.key), self.path(record.stage, record.key)
        for name in ignore:
            shutil.rmtree(work / name, ignore_errors=True)
        remove_partials(work)
        paths = sorted(path for path in work.rglob("*") if path.is_file() and path.name != RECORD)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            files = dict(zip((str(path.relative_to(work)) for path in paths), pool.map(_describe, paths), strict=True))
        write_whole(work / RECORD, record.model_copy(update={"files": files}).model_dump_json(indent=2), sync=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        work.rename(final)
        sync_folder(final.parent)
        self._sound.add(str(final))
        return Artifact(stage=record.stage, key=record.key, path=str(final))

    def digest(self, source: Path, only: tuple[str, ...] = ()) -> str:
        """Content digest of an external file or folder (only of the files named in `only`, if given); unchanged files
        are not read again."""
        if not source.exists():
            raise StoreError(f"{source} does not exist; check the path")
        paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        for path in (source, *paths):
            check_allowed(path)
        combined = hashlib.sha256()
        digests = _read_known(self.root)
        before = len(digests)
        digests = _digested | digests
        for path in paths:
            if only and path.name not in only:
                continue
            status = path.stat()
            # The change time is set by the kernel, so it reveals a file rewritten with the same size and modification
            # time.
            identity = f"{path.absolute()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
            if identity not in digests:
                digests[identity] = _digested[identity] = sha256(path)
            name = path.name if source.is_file() else str(path.relative_to(source))
            combined.update(f"{name}\0{digests[identity]}\n".encode())
        if len(digests) != before and self.writes and self.root.is_dir():
            with contextlib.suppress(OSError):  # only a cache; a full disk is reported where it matters
                write_whole(self.root / "digests.json", json.dumps(digests))
        return f"sha256:{combined.hexdigest()[:32]}"

    def records(self, stage: str) -> list[Record]:
        """Records of all sealed artifacts of a stage, newest first; unreadable ones are skipped."""
        records = [record for path in self.root.glob(f"{stage}/*/{RECORD}") if (record := read_record(path))]
        return sorted(records, key=lambda record: record.created, reverse=True)


_digested: dict[str, str] = {}
"""Digests of files read by this process, by path, size and times, so that a plan and a run read files once."""


def read_record(path: Path) -> Record | None:
    """The record in a file; None where there is none, or it cannot be read."""
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _damage(path: Path, record: Record) -> str | None:
    """Description of the damage of a sealed folder; None if all files are unchanged."""
    names = list(record.files)
    for name in names:
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != record.files[name].bytes:
            return f"{name} has {file.stat().st_size} bytes instead of {record.files[name].bytes}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, digest in zip(names, pool.map(lambda name: sha256(path / name), names), strict=True):
            if digest != record.files[name].sha256:
                return f"the content of {name} has changed"
    return None


def _describe(path: Path) -> File:
    digest = sha256(path, sync=True)
    return File(bytes=path.stat().st_size, sha256=digest)


def _read_known(root: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads((root / "digests.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known
