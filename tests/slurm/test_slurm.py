"""A flow on a real Slurm of two nodes: it teaches on both, ends what it started, and finds its job again after it was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow_fixtures import RECIPE, imbik, left_behind, start, wait_for
from tests.slurm import service

pytestmark = [pytest.mark.drill, pytest.mark.skipif(bool(service.absent()), reason=str(service.absent()))]
CLUSTER = Path(__file__).with_name("cluster.yaml")
RUN = ["run", str(RECIPE), "students.width=null", "students.depth.quantize=false", "evaluate.mmlu=null", "teacher.steps=10"]
RUN += ["distill.micro_batch=2", "distill.steps=120", "distill.validate_every=60", "distill.checkpoint_every=20", "--name", "taught"]
ON_SLURM = [*RUN, "--cluster", str(CLUSTER)]
CANCEL_SECONDS = 30.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm runs, and every command of this module's tests finds it."""
    before = dict(os.environ)
    with service.running(tmp_path_factory.mktemp("slurm")) as variables:
        os.environ.update(variables)
        yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything but the taught student, made on this machine: where a stage runs does not change its key."""
    store = tmp_path_factory.mktemp("pruned") / "store"
    done = imbik(*RUN, "distill=null", store=store)
    assert done.returncode == 0, done.stderr
    return store


def queue() -> list[str]:
    """Ids of the jobs that wait or run."""
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def checkpoints(store: Path) -> list[Path]:
    return list(store.glob(".work/distill-*/checkpoints/step-*"))


def tried(store: Path) -> list[Path]:
    """The distillation's submissions, a folder of NeMo-Run's each."""
    return list(store.glob(".work/nemo-run/experiments/imbik-*-distill/imbik-*"))


def test_a_killed_flow_finds_its_job_and_waits_for_it(slurm: None, pruned: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(pruned, store, symlinks=True)
    flow = start(*ON_SLURM, store=store)
    wait_for(lambda: checkpoints(store) or flow.poll() is not None, 120, "nothing was taught")
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    job = queue()
    assert len(job) >= 1, "the job died with its flow"
    done = imbik(*ON_SLURM, store=store)
    assert done.returncode == 0, done.stderr
    assert len(tried(store)) == 1, "it was submitted twice"
    artifact = next(store.glob("distill/*"))
    steps = [json.loads(line)["step"] for line in (artifact / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 120
    record = json.loads((artifact / "artifact.json").read_text())
    assert record["config"]["parallel"]["processes"] == 2
    assert queue() == []
    assert not list(store.glob(".work/*.submission.json"))


def test_a_cancelled_flow_leaves_nothing_in_the_queue_nor_on_the_nodes(slurm: None, pruned: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(pruned, store, symlinks=True)
    flow = start(*ON_SLURM, "distill.steps=5000", store=store)
    wait_for(lambda: checkpoints(store) or flow.poll() is not None, 120, "nothing was taught")
    assert flow.poll() is None, flow.communicate()
    flow.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    _, err = flow.communicate(timeout=CANCEL_SECONDS + 10)
    assert err == "imbik: stopped; the same command continues from where it was\n"
    wait_for(lambda: not queue() and not left_behind(store), 5, f"left: {queue()} {left_behind(store)}")
    assert time.monotonic() - begun < CANCEL_SECONDS
    assert not list(store.glob("distill/*")) and not list(store.glob(".work/*.submission.json"))
