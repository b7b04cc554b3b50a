"""Checkpoints under fire: killed at any moment of a write, damaged on the disk, a disk that is full, a clock that
jumps, a time limit.

However a run was disturbed, the model it ends with is that of an undisturbed one, bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conf.spec import JobExit
from jobs.runtime import checkpoint_folder as checkpoints
from jobs.runtime.entry import execute
from tests.drills.disks import mounted
from tests.fixtures.jobs import SHAPE, TRAINING, killed_after_a_checkpoint, refused, run_job, write_spec

pytestmark = pytest.mark.drill
CONFIG = {"shape": SHAPE, **TRAINING, "steps": 40, "validate_every": 20}


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run, its checkpoints of steps 30 and 40 still there."""
    return run_job("teacher", CONFIG, {"data": corpus}, tmp_path_factory.mktemp("drills") / "whole")


def model(output: Path) -> bytes:
    return (output / "model" / "model.safetensors").read_bytes()


def steps(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]


KILLER = """
import os, pathlib, signal, sys
from jobs.runtime import checkpoint_folder as checkpoints
folder, step, last = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seen = 0
def audit(event, arguments):
    global seen
    watched = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
    if event in watched and str(folder) in str(arguments[0]):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
def write(partial):
    for name in ("master", "exp_avg"):
        (partial / name).mkdir()
        (partial / name / "model.safetensors").write_bytes(bytes([step]) * 5000)
    return {"watch": {"best": step}}
sys.addaudithook(audit)
checkpoints.publish(folder, step, 2, write)
"""


def test_a_killed_write_leaves_the_old_checkpoint_or_the_new(tmp_path: Path) -> None:
    folder, moments = tmp_path / "checkpoints", 0

    def publish(step: int, moment: int) -> int:
        command = [sys.executable, "-c", KILLER, str(folder), str(step), str(moment)]
        return subprocess.run(
            command, check=False, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        ).returncode

    assert [publish(step, 0) for step in (1, 2)] == [0, 0]
    while publish(3, moments + 1) == -signal.SIGKILL:
        moments += 1
        found = checkpoints.newest_sound(folder)
        assert found
        step = found[1]["step"]
        assert step in (2, 3)
        assert (found[0] / "exp_avg" / "model.safetensors").read_bytes() == bytes([step]) * 5000
        if step == 3:
            shutil.rmtree(folder / "step-00000003")
            if not (folder / "step-00000001").exists():
                assert publish(1, 0) == 0
    assert moments > 15
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a flipped bit in the weights": ("master/rank-00000.safetensors", flip),
    "a flipped bit in a moment": ("exp_avg_sq/rank-00000.safetensors", flip),
    "half a shard": ("exp_avg/rank-00000.safetensors", halve),
    "an empty shard": ("exp_avg/rank-00000.safetensors", lambda path: os.truncate(path, 0)),
    "a missing shard": ("master/rank-00000.safetensors", Path.unlink),
    "an empty state file": ("state.json", lambda path: os.truncate(path, 0)),
    "a flipped bit in the state": ("state.json", flip),
    "garbage for a state": ("state.json", lambda path: path.write_text('{"step": 999999}') and None),
    "no state file": ("state.json", Path.unlink),
}


def copied(whole: Path, to: Path) -> Path:
    """The undisturbed run before it wrote its model, on its own disk blocks."""
    shutil.copytree(whole, to, ignore=shutil.ignore_patterns("model"))
    return to / "checkpoints"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole: Path, corpus: Path, tmp_path: Path) -> None:
    for number, (told, (name, damage)) in enumerate(DAMAGES.items()):
        folder = copied(whole, tmp_path / str(number))
        damage(folder / "step-00000040" / name)
        found = checkpoints.newest_sound(folder)
        assert found and found[1]["step"] == 30, told
        assert (folder / "damaged-step-00000040").is_dir(), told
    last = tmp_path / str(number)
    run_job("teacher", CONFIG, {"data": corpus}, last)
    assert model(last) == model(whole)
    assert steps(last) == list(range(41))


def test_damaged_checkpoints_are_never_overwritten(
    whole: Path, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = copied(whole, tmp_path / "out")
    for checkpoint in checkpoints.existing(folder):
        halve(checkpoint / "exp_avg" / "rank-00000.safetensors")
    told = refused("teacher", CONFIG, {"data": corpus}, tmp_path / "out", capfd)
    assert "every checkpoint in" in told and "remove that folder to restart this stage" in told
    assert [path.name for path in checkpoints.existing(folder)] == ["step-00000030", "step-00000040"]
    assert JobExit.model_validate_json((tmp_path / "out" / "ended.json").read_text()).reason == "mistake"


def test_a_job_killed_twice_while_writing_ends_in_the_same_model(whole: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for step in (10, 20):
        killed_after_a_checkpoint(
            "teacher", CONFIG, {"data": corpus}, output, lambda state, step=step: state["step"] >= step
        )  # type: ignore[misc]
    run_job("teacher", CONFIG, {"data": corpus}, output)
    assert model(output) == model(whole)
    assert steps(output) == list(range(41))


def test_a_time_limit_survives_a_jumping_clock(
    whole: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, jumps = time.time, [0]

    def jumping() -> float:
        jumps[0] += 1
        return real() + (7200 if jumps[0] % 2 else -7200)

    monkeypatch.setattr(time, "time", jumping)
    output, reached = tmp_path / "out", [0]
    spec = write_spec("teacher", CONFIG, {"data": corpus}, output)
    for limit in ("1.5", "1.7", "2.0"):
        monkeypatch.setenv("IMBIK_TIME_LIMIT", limit)
        monkeypatch.setenv("IMBIK_TIME_MARGIN", "1.4")
        assert execute(_teacher(), spec) == 75
        told = JobExit.model_validate_json((output / "ended.json").read_text())
        assert told.reason == "time" and told.rank == 0 and "continues from there" in told.sentence
        (output / "ended.json").unlink()
        reached.append(int(checkpoints.existing(output / "checkpoints")[-1].name.removeprefix("step-")))
        assert reached[-1] > reached[-2], "an attempt gained nothing"
        assert f"after step {reached[-1]} of 40" in told.sentence
    monkeypatch.delenv("IMBIK_TIME_LIMIT")
    assert execute(_teacher(), spec) == 0
    assert jumps[0] > 40
    assert model(output) == model(whole)
    assert steps(output) == list(range(41))


def _teacher() -> Any:
    from jobs import teacher

    return teacher.run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint, not for two."""
    with mounted(tmp_path / "disk", "size=2m") as disk:
        yield disk


def test_a_full_disk_keeps_the_checkpoint_before(
    whole: Path, corpus: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = small_disk / "out"
    size = sum(path.stat().st_size for path in (whole / "checkpoints" / "step-00000040").rglob("*") if path.is_file())
    subprocess.run(["mount", "-o", f"remount,size={int(size * 1.6) // 1024}k", str(small_disk)], check=True)
    told = refused("teacher", CONFIG, {"data": corpus}, output, capfd)
    assert "the disk is full" in told and "free space there" in told
    (found,) = checkpoints.existing(output / "checkpoints")
    assert found.name == "step-00000010"
    assert checkpoints.newest_sound(output / "checkpoints")
    assert [path.name for path in (output / "checkpoints").iterdir()] == [found.name], (
        "half a checkpoint takes the room of a whole one"
    )
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    run_job("teacher", CONFIG, {"data": corpus}, output)
    assert model(output) == model(whole)
