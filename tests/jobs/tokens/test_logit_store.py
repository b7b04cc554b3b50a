"""A logit store of handmade rows: what is written comes back by address, and nothing else does."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conf.files import sha256
from conf.stages.logits import LogitsConfig
from jobs.tokens import logit_store
from jobs.tokens.logit_store import LogitStore, Rows

STARTS = [[10, 0], [4]]
LENGTHS = [[3, 2], [2]]
ADDRESSES = [10, 11, 12, 0, 1, 4, 5]
"""Those of the rows below, in the order in which they are written."""


def rows(vocab_size: int) -> Rows:
    n = np.arange(7)
    return Rows(
        ids=np.stack([n * 9973 % vocab_size, vocab_size - 1 - n, n], axis=1),
        logits=np.stack([0 * n, -n / 2, -n], axis=1).astype(np.float16),
        rest=(n / 8).astype(np.float32),
        loss=(n / 4).astype(np.float16),
    )


def store(folder: Path, vocab_size: int) -> tuple[Rows, dict[str, Any]]:
    whole = rows(vocab_size)
    for number, part in enumerate((slice(0, 5), slice(5, 7))):
        one = Rows(ids=whole.ids[part], logits=whole.logits[part], rest=whole.rest[part], loss=whole.loss[part])
        starts, lengths = np.array(STARTS[number]), np.array(LENGTHS[number])
        logit_store.write_shard(folder, f"s{number}", starts, lengths, one, vocab_size)
    facts = {"vocab_size": vocab_size, "top_k": 3}
    return whole, logit_store.write_manifest(folder, facts, {"train": ["s0", "s1"]})


@pytest.mark.parametrize("vocab_size", [100, 65_536, 65_537, 131_072, 131_073, 262_144])
def test_rows_are_found_by_address(tmp_path: Path, vocab_size: int) -> None:
    whole, _ = store(tmp_path, vocab_size)
    order = np.array([6, 0, 3, 2, 5, 4, 1, 3])
    found = LogitStore(tmp_path, "train").rows(np.array(ADDRESSES)[order])
    for name in ("ids", "logits", "rest", "loss"):
        assert getattr(found, name).tolist() == getattr(whole, name)[order].tolist(), name


def test_the_manifest_counts_rows_and_rest(tmp_path: Path) -> None:
    _, manifest = store(tmp_path, 100)
    assert logit_store.read_manifest(tmp_path) == manifest
    assert manifest["splits"]["train"] == {
        "shards": [
            {"file": f"s{n}.safetensors", "rows": size, "sha256": sha256(tmp_path / f"s{n}.safetensors")}
            for n, size in enumerate((5, 2))
        ],
        "rows": 7,
        "left_out": pytest.approx((0 + 1 + 2 + 3 + 4 + 5 + 6) / 8 / 7),
    }


@pytest.mark.parametrize("address", [2, 3, 6, 9, 13])
def test_an_address_that_was_not_stored_is_named(tmp_path: Path, address: int) -> None:
    store(tmp_path, 100)
    with pytest.raises(ValueError, match=rf"no logits for the train token at {address}; raise logits.sequences"):
        LogitStore(tmp_path, "train").rows(np.array([0, address]))


def test_damage_is_found_on_first_use(tmp_path: Path) -> None:
    store(tmp_path, 100)
    with (tmp_path / "s1.safetensors").open("ab") as stream:
        stream.write(b"x")
    opened = LogitStore(tmp_path, "train")
    assert opened.rows(np.array([0])).ids.shape == (1, 3)
    with pytest.raises(ValueError, match=r"s1.safetensors is missing or damaged; remove"):
        opened.rows(np.array([4]))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no logits.json, so it is not a logit store"):
        logit_store.read_manifest(tmp_path)


def test_runs_and_rows_must_agree(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="runs and rows disagree"):
        logit_store.write_shard(tmp_path, "s", np.array([0]), np.array([6]), rows(100), 100)


@pytest.mark.parametrize(
    ("vocab_size", "row"), [(65_536, 4 * 8 + 6), (65_537, 4 * 8 + 1 + 6), (131_073, 4 * 8 + 2 + 6)]
)
def test_a_store_may_fill_the_disk_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocab_size: int, row: int
) -> None:
    """8 ids and logits of 16 bits each, a bit a plane for 8 ids, 4 bytes of rest and 2 of loss; 100 are there."""
    (tmp_path / "s0.safetensors").write_bytes(b"x" * 100)
    config = LogitsConfig.model_validate({"top_k": 8, "seq_length": 8})
    needed = 1000 * row - 100
    monkeypatch.setattr(logit_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    logit_store.check_disk(tmp_path, 1000, config, vocab_size)
    monkeypatch.setattr(logit_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(OSError, match=r"1,000 tokens with 8 logits each take .* lower logits.sequences") as full:
        logit_store.check_disk(tmp_path, 1000, config, vocab_size)
    assert full.value.errno == errno.ENOSPC
