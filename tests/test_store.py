"""The store: keys that change when the result would, artifacts that are whole or not there, one build for many askers."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.schema import DistillConfig, PruneConfig, QuantizeConfig
from conf.spec import Record
from tasks.store import Store, StoreError, key_of

DISTILL: dict[str, Any] = {
    "steps": 30,
    "seq_length": 64,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 1e-4,
    "min_lr": 1e-5,
    "warmup_steps": 2,
}
ELSEWHERE = {"micro_batch": 8, "checkpoint_every": 7, "parallel": {"processes": 2}}
OTHER = {
    "steps": 31,
    "seq_length": 65,
    "global_batch": 16,
    "lr": 2e-4,
    "min_lr": 2e-5,
    "warmup_steps": 3,
    "weight_decay": 0.2,
    "adam_beta1": 0.8,
    "adam_beta2": 0.9,
    "clip_grad": 2.0,
    "precision": "fp32",
    "seed": 2,
    "validate_every": 51,
    "validation_batches": 9,
    "temperature": 2.0,
    "ce_share": 0.5,
}


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


def test_a_golden_key() -> None:
    """A key that changes throws every store away: bump a revision instead, knowingly."""
    assert key_of("prune", PruneConfig(num_layers=16), {"data": "a", "teacher": "b"}) == "440e7afd34ca899107efcd1c611f534c"


@pytest.mark.parametrize("name", OTHER)
def test_what_decides_the_result_changes_the_key(name: str) -> None:
    assert set(OTHER) | set(ELSEWHERE) == set(DistillConfig.model_fields), "every setting is on one of the two lists"
    assert key_of("distill", DistillConfig(**DISTILL), {}) != key_of("distill", DistillConfig(**DISTILL | {name: OTHER[name]}), {})


@pytest.mark.parametrize("name", ELSEWHERE)
def test_where_it_runs_does_not(name: str) -> None:
    assert key_of("distill", DistillConfig(**DISTILL), {}) == key_of("distill", DistillConfig(**DISTILL | {name: ELSEWHERE[name]}), {})


def test_stage_inputs_and_format_are_part_of_the_key() -> None:
    fp8, nvfp4 = QuantizeConfig(format="fp8"), QuantizeConfig(format="nvfp4")
    keys = [key_of("quantize", fp8, {}), key_of("quantize", nvfp4, {}), key_of("quantize", fp8, {"model": "a"}), key_of("other", fp8, {})]
    assert len(set(keys)) == 4


def test_a_sealed_artifact_is_found_with_its_digests(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("prune", "k") is None
    path = sealed(store)
    found = Store(tmp_path).find("prune", "k")
    assert found is not None
    assert found.path == str(path)
    assert list(found.record.files) == ["model/model.safetensors"]
    assert not store.work("prune", "k").exists()


def test_work_that_was_not_sealed_is_invisible_and_kept_for_the_retry(tmp_path: Path) -> None:
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
    assert len({first, second, store.digest(folder)}) == 3
    with pytest.raises(StoreError, match="does not exist; check the path"):
        store.digest(tmp_path / "nowhere")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that cannot be written, not even by root."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs root and mount ({mounted.stderr.strip()})")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_read_only_store_says_so(read_only: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written: the file system is read-only; remount it or choose another with --store"):
        Store(read_only / "store").create()
