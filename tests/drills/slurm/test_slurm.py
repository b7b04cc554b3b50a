"""Flows on a real Slurm of two nodes: a student is taught on both, cancelled, found again after its flow was killed,
stopped by its time limit and finished; what cannot start or breaks is told in one sentence; nothing is left in the
queue or on the nodes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from conf.cluster import Ssh
from conf.load import load
from conf.spec import Record
from tasks.launch.ports import free_port
from tests.drills.slurm import service
from tests.fixtures.flow import RECIPE, imbik, left_behind, reached, report_of, start, wait_for
from tests.fixtures.jobs import ranks
from tests.fixtures.pages import Site, end, serve

pytestmark = [pytest.mark.drill, pytest.mark.skipif(bool(service.absent()), reason=str(service.absent()))]
CLUSTER = Path(__file__).with_name("cluster.yaml")
SABOTAGE = RECIPE.parents[1] / "drills" / "sabotage"
STEPS = 200
SETTINGS = ["students.width=null", "students.depth.quantize=false", "evaluate.mmlu=null", "teacher.steps=10"]
TAUGHT = ["distill.micro_batch=2", f"distill.steps={STEPS}", "distill.validate_every=100", "distill.checkpoint_every=5"]
RUN = ["run", str(RECIPE), *SETTINGS, *TAUGHT, "--name", "taught", "--cluster"]
SECONDS = 300.0
LIMIT_MINUTES = 5
TAUGHT_SECONDS = 30
"""Of its limit, what a job teaches for; the rest is its margin, for this may be a slow machine."""
CANCEL_SECONDS = 30.0
STOPPED = "imbik: stopped; run the same command to continue\n"
RANK = "jobs.distill"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Slurm runs, in this folder, and every command of this module's tests finds it."""
    before, folder = dict(os.environ), tmp_path_factory.mktemp("slurm")
    with service.running(folder, free_port()) as variables:
        os.environ.update(variables)
        yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything but the taught student, made on this machine: where a stage runs does not change its
    key."""
    store = tmp_path_factory.mktemp("pruned") / "store"
    done = imbik("run", str(RECIPE), *SETTINGS, "distill=null", "--name", "pruned", store=store, alone=True)
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture
def store(pruned: Path, tmp_path: Path) -> Path:
    """A copy of `pruned` that the test may change."""
    shutil.copytree(pruned, tmp_path / "store", symlinks=True)
    return tmp_path / "store"


def cluster(tmp_path: Path, drill: str = "", **distill: Any) -> str:
    """A file with the tests' cluster where distillation is sabotaged by `drill` and has the settings `distill`."""
    changed = yaml.safe_load(CLUSTER.read_text())
    variables = {"PYTHONPATH": f"{SABOTAGE}:{RECIPE.parents[2]}", "DRILL": drill}
    changed["stages"]["distill"] |= {"environment": variables} | distill
    file = tmp_path / f"cluster-{len(list(tmp_path.glob('cluster-*')))}.yaml"
    file.write_text(yaml.safe_dump(changed))
    return str(file)


@contextlib.contextmanager
def flow(where: str, store: Path) -> Iterator[subprocess.Popen[str]]:
    """The run in the background, which ends with the block in any case."""
    process = start(*RUN, where, store=store)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def queue() -> list[str]:
    """Ids of the jobs that wait or run."""
    return subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True).stdout.split()


def told(job: str) -> dict[str, str]:
    """What Slurm says of a job."""
    text = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True, check=True).stdout
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def ended(slurm: Path) -> list[dict[str, str]]:
    """What Slurm noted of the jobs that ended."""
    lines = (slurm / "ended.txt").read_text().splitlines()
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def of_jobs(slurm: Path) -> list[str]:
    """Processes on the nodes that are no daemons: what slurmd started, and whatever that started."""
    found = []
    for process in psutil.process_iter():
        try:
            variables, command = process.environ(), " ".join(process.cmdline())
            daemons_child = "SLURM_JOB_ID" in variables or command.startswith("slurmstepd")
            if (
                daemons_child
                and variables.get("SLURM_CONF", "").startswith(str(slurm))
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(f"{process.pid} {command}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def taught_on_both(slurm: Path) -> bool:
    return sum(RANK in line and "torchrun" not in line for line in of_jobs(slurm)) == 2


def tried(store: Path) -> int:
    """How often the distillation was submitted: a folder of NeMo-Run's each."""
    return len(list(store.glob(".work/nemo-run/experiments/imbik-*-distill/imbik-*")))


def gone(slurm: Path, store: Path, begun: float) -> None:
    """Within the time for it nothing is in the queue and nothing of a job is alive; nothing half made is visible."""
    left = CANCEL_SECONDS - (time.monotonic() - begun)
    wait_for(lambda: not queue() and not of_jobs(slurm), left, f"left: {queue()} {of_jobs(slurm)}")
    print(f"nothing left {time.monotonic() - begun:.1f} s after")
    assert not list(store.glob("distill/*"))


def forgotten(store: Path) -> bool:
    """No job is known that may still run."""
    return not list(store.glob(".work/*.submission.json"))


def asked(store: Path, query: str) -> list[Any]:
    """Rows of Prefect's database."""
    with sqlite3.connect(f"file:{store}/prefect/prefect.db?mode=ro", uri=True, timeout=30) as database:
        return database.execute(query).fetchall()


def log(store: Path) -> list[str]:
    """What was written to the Prefect log."""
    return [text for (text,) in asked(store, "select message from log order by timestamp")]


def test_a_student_survives_a_cancel_a_kill_and_a_time_limit(slurm: Path, store: Path, tmp_path: Path) -> None:
    cancelled_in_prefect(slurm, store, tmp_path)
    found = reached(store, "distill")
    assert found, "what the cancelled job had done was not saved"
    late = cluster(
        tmp_path, "slow@0.5", time_limit_minutes=LIMIT_MINUTES, margin_seconds=60 * LIMIT_MINUTES - TAUGHT_SECONDS
    )
    with flow(late, store) as process:
        wait_for(lambda: reached(store, "distill") > found or process.poll() is not None, SECONDS, "nothing was taught")
        assert process.poll() is None, process.communicate()
        (job,) = queue()
        described = told(job)
        assert (
            described["Partition"] == "gpu"
            and described["Account"] == "team"
            and described["TimeLimit"] == f"00:0{LIMIT_MINUTES}:00"
        )
        assert (
            described["NodeList"] == "n[1-2]" and described["NumNodes"] == "2" and "gpu:1" in described["TresPerNode"]
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert queue() == [job] and taught_on_both(slurm), "the job died with its flow"
    done = imbik(*RUN, str(CLUSTER), store=store, alone=True)
    assert done.returncode == 0, done.stderr
    assert queue() == [] and of_jobs(slurm) == [] and left_behind(store) == [] and forgotten(store)
    assert tried(store) == 3, "one was cancelled, one met its limit, one went on"
    as_if_undisturbed(store, tmp_path)
    seen_by_people(store, job)
    evaluated = [one for one in ended(slurm) if one["Name"].endswith("-evaluate")]
    assert [(one["Partition"], one["NodeCnt"], one["NodeList"], one["TimeLimit"]) for one in evaluated] == [
        ("cpu", "1", "n2", "31")
    ]


def cancelled_in_prefect(slurm: Path, store: Path, tmp_path: Path) -> None:
    """A run that a worker started, cancelled as Prefect's pages do it while both nodes teach."""
    port = free_port()
    process = serve(store, (port, free_port()))
    try:
        site = Site(store=store, pages=f"http://127.0.0.1:{port}", receiver="")
        wait_for(
            lambda: site.api("deployments/filter", {"deployments": {"name": {"any_": ["demo"]}}}),
            SECONDS,
            "nothing is deployed",
        )
        where = cluster(tmp_path, "slow@0.5")
        recipe = load(str(RECIPE), [*SETTINGS, *TAUGHT]).model_dump(mode="json", exclude_unset=True)
        run = site.begin("compress/demo", recipe=recipe, cluster=where, store=str(store), name="taught")
        wait_for(lambda: reached(store, "distill"), SECONDS, f"nothing was taught: {site.state(run)}")
        assert taught_on_both(slurm), of_jobs(slurm)
        bars = asked(store, "select data from artifact where key = 'progress-distill-depth'")
        assert bars and 0 < float(bars[-1][0]) < 100, "the bar does not move while the job runs"
        begun = time.monotonic()
        site.api(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        gone(slurm, store, begun)
        assert site.end(run, 60)["type"] == "CANCELLED"
        wait_for(lambda: not site.working(), 30, f"the flow outlives its cancel: {site.working()}")
        assert forgotten(store)
    finally:
        end(process, signal.SIGTERM, store)


def as_if_undisturbed(store: Path, tmp_path: Path) -> None:
    """The attempts are told, no step was made twice, and the model is the one that two ranks make in one go here."""
    (sealed,) = store.glob("distill/*")
    record = Record.model_validate_json((sealed / "artifact.json").read_text())
    assert [attempt.reason for attempt in record.attempts] == ["time", "done"]
    assert sum(attempt.steps for attempt in record.attempts) <= STEPS and all(
        attempt.steps for attempt in record.attempts
    )
    assert record.config["parallel"]["processes"] == 2
    steps = [json.loads(line)["step"] for line in (sealed / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS + 1))
    section = next(section for section in report_of(store, "taught")["sections"] if section["title"] == "Attempts")
    assert [row[2] for row in section["rows"] if row[0] == "depth"] == ["time limit", "done"]
    spec = json.loads((sealed / "spec.json").read_text())
    inputs = {role: Path(path) for role, path in spec["inputs"].items()}
    whole = ranks("distill", spec["config"], inputs, tmp_path / "whole", 2)
    assert (sealed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def seen_by_people(store: Path, job: str) -> None:
    """Queue state, nodes, steps and the job's own lines reached the Prefect log; the page of the run that ended has no
    bar. Those of a cancelled and of a killed run keep theirs, which tells how far they came."""
    lines = log(store)
    assert sum("submitted as job" in line for line in lines) == 4, "three times to teach, once to measure"
    assert any(line == f"found its job {job} on slurm and waits for it" for line in lines)
    assert "on n[1-2]" in lines and "on n2" in lines
    assert any(
        line.startswith("attempt 2: distill: ") and "time limit" in line and "resubmitted" in line for line in lines
    )
    assert any(line.startswith("step ") and f"/{STEPS}" in line and "kl" in line for line in lines)
    assert any(
        line.startswith("| ") and "imbik-error: the time limit is near: stopped after step" in line for line in lines
    )
    bars = "select flow_run.state_type from artifact join flow_run on flow_run.id = artifact.flow_run_id"
    kept = asked(store, f"{bars} where artifact.key = 'progress-distill-depth'")
    assert ("COMPLETED",) not in kept and len(kept) <= 2


def test_ctrl_c_ends_ranks_that_only_just_start(slurm: Path, store: Path) -> None:
    with flow(str(CLUSTER), store) as process:
        wait_for(lambda: taught_on_both(slurm) or process.poll() is not None, SECONDS, "no rank was started")
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=CANCEL_SECONDS)
    assert err == STOPPED and ": stopped" in out and "failed" not in out
    gone(slurm, store, begun)
    assert left_behind(store) == [] and forgotten(store)


def test_a_rank_that_fails_is_one_error_with_its_last_words(slurm: Path, store: Path, tmp_path: Path) -> None:
    done = imbik(*RUN, cluster(tmp_path, "broken@3"), store=store, alone=True)
    assert (done.returncode, done.stderr) == (1, "imbik: distill: RuntimeError: a drilled fault\n")
    lines = log(store)
    assert any(
        line.startswith("| ") and line.endswith("imbik-error: RuntimeError: a drilled fault") for line in lines
    ), "the rank's own lines are not told"
    assert tried(store) == 1, "a fault was tried again"
    assert queue() == [] and of_jobs(slurm) == [] and left_behind(store) == []


def test_a_job_that_never_starts_is_told_and_taken_back(slurm: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run = ["run", str(RECIPE), *TAUGHT, "--cluster", str(CLUSTER)]
    subprocess.run(["scontrol", "update", "nodename=n1,n2", "state=drain", "reason=drill"], check=True)
    try:
        waited = imbik(*run, "cluster.queue_minutes=0.02", store=store, alone=True)
    finally:
        subprocess.run(["scontrol", "update", "nodename=n1,n2", "state=resume"], check=True)
    assert waited.returncode == 1
    assert len(waited.stderr.splitlines()) == 1
    assert (
        waited.stderr.startswith("imbik: data: its job ")
        and "did not start within queue_minutes 0.02: queued (" in waited.stderr
    )
    assert queue() == [] and left_behind(store) == []
    refused = imbik(
        *run, "cluster.stages.data.nodes=1", "cluster.slurm.constraint=none-has-it", store=store, alone=True
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("imbik: data: slurm rejected its job: ") and len(refused.stderr.splitlines()) == 1
    assert queue() == [] and left_behind(store) == []


@pytest.mark.skipif(bool(service.without_ssh()), reason=str(service.without_ssh()))
def test_nodes_are_looked_at_over_ssh(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.launch import ssh
    from tasks.launch.backend import Unreachable

    folder = tmp_path / "login"
    with service.login(folder, {"SLURM_CONF": os.environ["SLURM_CONF"]}) as port:
        monkeypatch.setenv("HOME", str(folder / "home"))
        there = {"host": "127.0.0.1", "user": "root", "port": port, "identity_file": str(folder / "id")}
        wrong = {
            "port": {"port": free_port()},
            "known_hosts": {"host": "localhost"},
            "Authentication": {"identity_file": str(folder / "host")},
        }
        for said, differing in wrong.items():
            with pytest.raises(Unreachable, match=f"unreachable .*{said}.*without prompts"):
                ssh.tunnel(Ssh.model_validate(there | differing), str(tmp_path))
        settings = ", ".join(f"{name}: {value}" for name, value in there.items())
        shutil.copytree(folder / "home", tmp_path / "home")
        path = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "SLURM_CONF": "/nowhere"}
        asking = ["doctor", "--cluster", str(CLUSTER), f"cluster.slurm.ssh={{{settings}}}"]
        done = imbik(*asking, store=tmp_path / "store", more=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "doctor: on n[1-2]" in done.stdout
    assert "n1, n2: 2 ranks" in done.stdout and "GB/s of bus bandwidth (gloo, 64 MB)" in done.stdout
    assert "readable from every rank" in done.stdout and "as locked" in done.stdout
    assert queue() == [] and of_jobs(slurm) == []
