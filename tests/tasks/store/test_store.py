"""Keys of artifacts worked out from their definition, and a store that cannot be written."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest

from conf.load import load
from tasks.store.store import RECORD, Store, StoreError, key_of
from tests.fixtures.artifacts import write_record
from tests.fixtures.flow import RECIPE


def test_a_key_is_the_digest_of_what_the_artifact_depends_on() -> None:
    config = load(str(RECIPE)).data
    content = {
        "stage": "data",
        "revision": config.revision,
        "config": config.identity(),
        "inputs": {"a": "1", "b": "2"},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert key_of("data", config, {"b": "2", "a": "1"}) == key_of("data", config, {"a": "1", "b": "2"}) == key


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free space"),
        (errno.EROFS, "the file system is read-only; remount it"),
        (errno.EACCES, "Permission denied; check its permissions"),
    ],
)
def test_why_a_store_cannot_be_written_is_told(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", refused)
        with pytest.raises(StoreError, match=f"is not writable: {advice} or choose another --store"):
            Store(tmp_path / "store").create()


def test_records_come_newest_first(tmp_path: Path) -> None:
    created = {"a" * 32: "2026-01-01T00:00:00", "b" * 32: "2026-03-01T00:00:00", "c" * 32: "2026-02-01T00:00:00"}
    for key, when in created.items():
        write_record(tmp_path / "data" / key, "data", key, {}, {})
        file = tmp_path / "data" / key / RECORD
        file.write_text(json.dumps(json.loads(file.read_text()) | {"created": when}))
    (tmp_path / "data" / "broken").mkdir()
    (tmp_path / "data" / "broken" / RECORD).write_text("{")
    assert [record.key[0] for record in Store(tmp_path).records("data")] == ["b", "c", "a"]
