"""Tiny real artifacts for job tests, each made once a session by running the job itself in this process."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.entry import execute
from tasks.warm import Job, Warm, environment

RANKS_SECONDS = 180.0
THREADS = 60

SHAPE = {
    "num_layers": 4,
    "hidden_size": 64,
    "ffn_hidden_size": 96,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.06,
}
TRAINING = {
    "seq_length": 64,
    "global_batch": 8,
    "micro_batch": 4,
    "lr": 6e-3,
    "min_lr": 3e-4,
    "warmup_steps": 2,
    "precision": "fp32",
    "validate_every": 10,
    "validation_batches": 2,
    "checkpoint_every": 10,
}


def write_spec(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path) -> Path:
    """A spec file beside `output`, as the launcher writes it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.parent / f"{output.name}.spec.json"
    roles = {role: str(folder) for role, folder in inputs.items()}
    path.write_text(json.dumps({"stage": stage, "key": "test", "config": config, "inputs": roles, "output": str(output)}))
    return path


def run_job(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path) -> Path:
    """Run a job in this process and return its output folder; a failing job fails the test."""
    code = executed(stage, config, inputs, output)
    assert code == 0, f"{stage} exited with {code}"
    return output


def refused(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a job refuses, in this process; it must be the user's mistake (exit code 2)."""
    code = executed(stage, config, inputs, output)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("imbik-error: ")]
    assert code == 2, f"{stage} exited with {code}"
    assert len(lines) == 1
    return lines[0]


def executed(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path) -> int:
    """A job in this process. What it leaves for the collector holds gloo's threads, fifty a job, each awake a hundred times a second."""
    code = execute(importlib.import_module(f"jobs.{stage}").run, write_spec(stage, config, inputs, output))
    if len(list(Path("/proc/self/task").iterdir())) > THREADS:
        gc.collect()
    return code


def ranks(stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path, processes: int) -> Path:
    """Run a job over several gloo ranks, in the environment torchrun gives them but forked from a process that has imported already:
    torchrun itself is in the tests of whole flows, and takes twenty seconds to start two ranks."""
    spec, jobs = start_ranks(stage, config, inputs, output, processes)
    deadline = time.monotonic() + RANKS_SECONDS
    for rank, job in enumerate(jobs):
        ended = job.ended.wait(deadline - time.monotonic())
        if not ended or job.code:
            _kill(jobs)
            log = spec.with_name(f"{spec.name}.rank-{rank}.log").read_text()
            raise AssertionError(f"rank {rank} {f'exited with {job.code}' if ended else 'hangs'}: {log[-3000:]}")
    return output


ToRun = tuple[str, dict[str, Any], dict[str, Path], Path]
"""Stage, config, inputs, output folder."""


def torchrun_all(jobs: list[ToRun], processes: int) -> None:
    """Run jobs over several gloo ranks one after another in the same processes, since starting each would cost more than running it."""
    path = jobs[0][3].parent / "jobs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([(stage, str(write_spec(stage, config, inputs, output))) for stage, config, inputs, output in jobs]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "tests.many_jobs"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, env=environment, check=False)
    told = [line for line in done.stderr.splitlines() if line.startswith("imbik-error: ")]
    assert done.returncode == 0, told or done.stderr[-3000:]


def start_ranks(
    stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path, processes: int, more: dict[str, str] | None = None
) -> tuple[Path, list[Job]]:
    """Start the ranks of a job, with `more` in their environment; the spec's path and the ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = (more or {}) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(processes)}
    spec = write_spec(stage, config, inputs, output)
    jobs = [_forked(stage, spec, meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, f"rank-{rank}") for rank in range(processes)]
    return spec, jobs


def killed_after_a_checkpoint(
    stage: str, config: dict[str, Any], inputs: dict[str, Path], output: Path, such: Callable[[dict[str, Any]], bool] = lambda state: True
) -> None:
    """Start a job as a process of its own and kill it when a checkpoint is there, one whose state.json is `such`."""
    job = _forked(stage, write_spec(stage, config, inputs, output), {}, "killed")
    deadline = time.monotonic() + 120
    while not any(such(state) for state in _states(output)):
        assert not job.ended.is_set() and time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    _kill([job])
    assert not (output / "model").exists()


@functools.cache
def _warm() -> Warm:
    """One a pytest worker; it dies with it."""
    return Warm()


def _forked(stage: str, spec: Path, environment_of_it: dict[str, str], name: str) -> Job:
    assert _warm().ready()
    log = str(spec.with_name(f"{spec.name}.{name}.log"))
    return _warm().submit({"stage": stage, "spec": str(spec), "log": log, "environment": environment(1) | environment_of_it})


def _kill(jobs: list[Job]) -> None:
    for job in jobs:
        job.started.wait(RANKS_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGKILL)
        job.ended.wait(RANKS_SECONDS)


def _states(output: Path) -> list[dict[str, Any]]:
    found = []
    for path in output.glob("checkpoints/step-*/state.json"):
        with contextlib.suppress(FileNotFoundError):  # an old checkpoint may go while it is looked at
            found.append(json.loads(path.read_text()))
    return found


def last(output: Path, name: str) -> float:
    """The last logged value of a metric."""
    lines = [json.loads(line)["values"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    return float([values[name] for values in lines if name in values][-1])


def first(output: Path, name: str) -> float:
    """The first logged value of a metric."""
    lines = [json.loads(line)["values"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    return float(next(values[name] for values in lines if name in values))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data artifact: the invented world, its tokenizer, tokens and quiz."""
    world = {"seed": 3, "entities": 10, "documents": 400, "questions": 40}
    config = {"source": "world", "world": world, "vocab_size": 384, "validation_share": 0.1, "test_share": 0.1}
    return run_job("data", config, {}, tmp_path_factory.mktemp("artifacts") / "data")


@pytest.fixture(scope="session")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained teacher of four layers; its steps are enough for a dropped layer to be missed."""
    config = {"shape": SHAPE, "steps": 120, **TRAINING}
    return run_job("teacher", config, {"data": corpus}, tmp_path_factory.mktemp("artifacts") / "teacher")


@pytest.fixture(scope="session")
def importance(corpus: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Importance scores of the teacher."""
    config = {"calibration_samples": 16, "seq_length": 64, "micro_batch": 4, "precision": "fp32"}
    return run_job("importance", config, {"data": corpus, "teacher": teacher}, tmp_path_factory.mktemp("artifacts") / "importance")


@pytest.fixture(scope="session")
def student(corpus: Path, teacher: Path, importance: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher cut to three layers by rank."""
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    return run_job("prune", {"num_layers": 3}, inputs, tmp_path_factory.mktemp("artifacts") / "student")
