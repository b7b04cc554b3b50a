"""What Slurm's answers are taken for; what it is asked is in test_backends.py."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.cluster import SlurmCluster, load_cluster
from conf.parallel import Parallel
from tasks.launch import slurm as backend
from tasks.launch.backend import SCRIPT_LOG, JobRequest, JobStatus, Unreachable
from tasks.launch.slurm import Slurm, _clock

FORGOTTEN = "slurm_load_jobs error: Invalid job id specified"


class Login:
    """A login node that answers each command with text; one without an answer fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: str) -> None:
        self.asked: list[str] = []
        self.answers, self.error = answers, FORGOTTEN
        monkeypatch.setattr(Slurm, "_ask", lambda _, command: self.run(command))

    def run(self, command: str) -> SimpleNamespace:
        self.asked.append(command)
        answer = self.answers.get(command.split()[0])
        return SimpleNamespace(
            stdout=answer or "", stderr="" if answer is not None else self.error, ok=answer is not None
        )


STATES = {
    "PENDING|Priority||2026-01-02T03:04": JobStatus(
        phase="queued", detail="queued (Priority, starts about 2026-01-02T03:04)"
    ),
    "PENDING|Resources||N/A": JobStatus(phase="queued", detail="queued (Resources)"),
    "CONFIGURING|None|n1|N/A": JobStatus(phase="queued", detail="queued"),
    "PENDING|InvalidQOS||N/A": JobStatus(phase="queued", detail="queued (InvalidQOS)", cause="never-started"),
    "RUNNING|None|n[1-2]|x": JobStatus(phase="running", detail="on n[1-2]"),
    "COMPLETING|None|n1|x": JobStatus(phase="running", detail="on n1"),
    "COMPLETED|None|n1|x": JobStatus(phase="done", detail="Slurm reports COMPLETED"),
    "FAILED|NonZeroExitCode|n1|x": JobStatus(phase="failed", detail="Slurm reports FAILED"),
    "TIMEOUT|x|n1|x": JobStatus(phase="failed", detail="Slurm reports TIMEOUT", cause="time"),
    "PREEMPTED|x|n1|x": JobStatus(phase="failed", detail="Slurm reports PREEMPTED", cause="preempted"),
    "NODE_FAIL|x|n1|x": JobStatus(phase="failed", detail="Slurm reports NODE_FAIL", cause="node"),
    "OUT_OF_MEMORY|x|n1|x": JobStatus(phase="failed", detail="Slurm reports OUT_OF_MEMORY", cause="memory"),
    "CANCELLED by 0": JobStatus(phase="failed", detail="Slurm reports CANCELLED", cause="cancelled"),
}


@pytest.mark.parametrize(("line", "status"), STATES.items())
def test_a_state_of_squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, status: JobStatus) -> None:
    login = Login(monkeypatch, squeue=f"{line}\n")
    assert Slurm(load_cluster("slurm"), tmp_path).status("17", tmp_path / "job.log") == status
    assert login.asked == ["squeue -h -t all -j 17 -o '%T|%r|%N|%S'"]


def test_a_forgotten_job_is_looked_up_in_accounting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Login(monkeypatch, sacct="TIMEOUT|0:0|n1|2026-01-02\nFAILED|1:0|n1|2026-01-02\n")
    found = Slurm(load_cluster("slurm"), tmp_path).status("17", tmp_path / "job.log")
    assert (found.phase, found.cause) == ("failed", "time")


def test_without_accounting_the_jobs_script_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login, slurm, log = Login(monkeypatch), Slurm(load_cluster("slurm"), tmp_path), tmp_path / "job.log"
    assert slurm.status("17", log) == JobStatus(phase="lost", detail="Slurm no longer knows it")
    script = tmp_path / "script.log"
    script.write_text("slurmstepd: error: *** JOB 17 ON n1 CANCELLED AT 2026-01-02 DUE TO TIME LIMIT ***\n")
    assert slurm.status("17", log) == JobStatus(phase="lost", detail="Slurm no longer knows it (TIME LIMIT)")
    script.write_text("slurmstepd: error: *** STEP 17.0 ON n1 CANCELLED AT 2026-01-02T03:04:05 ***\n")
    assert slurm.status("17", log).detail == "Slurm no longer knows it (CANCELLED)"
    script.write_text("job exited with code 1\njob exited with code 0\n")  # the last counts
    assert slurm.status("17", log) == JobStatus(phase="done", detail="it exited with 0")
    script.write_text("job exited with code 10\n")
    assert slurm.status("17", log) == JobStatus(phase="failed", detail="it exited with 10")
    script.unlink()
    login.error = "first\nUnable to contact slurm controller\n"
    with pytest.raises(Unreachable, match=r"^Unable to contact slurm controller$"):
        slurm.status("17", log)


def test_a_job_is_found_by_name_and_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login, slurm = Login(monkeypatch, squeue="17\n18\n", scancel=""), Slurm(load_cluster("slurm"), tmp_path)
    assert slurm.find("distill-01") == "17"
    login.answers["squeue"] = ""
    assert slurm.find("distill-01") is None
    slurm.cancel("17", hard=False)
    slurm.cancel("17", hard=True)
    assert login.asked[-2:] == ["scancel 17", "scancel --signal=KILL --full 17"]


@pytest.mark.parametrize(
    ("minutes", "clock"),
    [(0.5, "0-00:01:00"), (59, "0-00:59:00"), (60, "0-01:00:00"), (1439.2, "1-00:00:00"), (4503, "3-03:03:00")],
)
def test_a_time_limit_is_rounded_up_to_minutes(minutes: float, clock: str) -> None:
    assert _clock(minutes) == clock


def request(store: Path, settings: list[str], ranks: int) -> tuple[Slurm, JobRequest]:
    cluster = load_cluster("slurm", settings)
    resources = cluster.resources("distill")
    nodes, each = resources.spread(Parallel(processes=ranks))
    spec = store / "work" / "spec.json"
    spec.parent.mkdir(exist_ok=True)
    job = JobRequest(
        name="imbik-1-distill", stage="distill", spec=spec, store=store, resources=resources, nodes=nodes, ranks=each
    )
    return Slurm(cluster, store), job


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What NeMo-Run's executor is made with."""
    given: dict[str, Any] = {}
    names = {name: lambda **_: None for name in ("Packager", "LocalTunnel")}
    module = SimpleNamespace(SlurmExecutor=lambda **arguments: given.update(arguments), **names)
    monkeypatch.setitem(sys.modules, "nemo_run", module)
    monkeypatch.setattr(backend.nemo_run, "torchrun", lambda job, port: port)
    return given


@pytest.mark.parametrize(
    ("settings", "ranks", "wanted"),
    [
        (["defaults.gpus_per_node=8"], 4, (1, 4, 4, None, None)),
        (["defaults.gpus_per_node=8"], 16, (2, 8, 8, None, None)),
        (["defaults.gpus_per_node=8", "slurm={gpu_request: none}"], 4, (1, 4, None, None, None)),
        (["defaults={gpus_per_node: 8, memory_gb: 1.5, cpus: 6}"], 1, (1, 1, 1, 6, "1431M")),
    ],
)
def test_a_job_asks_slurm_for_its_resources(
    settings: list[str], ranks: int, wanted: tuple[Any, ...], tmp_path: Path, asked: dict[str, Any]
) -> None:
    slurm, job = request(tmp_path, settings, ranks)
    slurm.executor(job)
    names = ("nodes", "ntasks_per_node", "gpus_per_node", "cpus_per_task", "mem")
    assert tuple(asked[name] for name in names) == wanted
    assert 0 <= asked["launcher"] - slurm.settings.rendezvous_port < 4000


@pytest.mark.parametrize("settings", [[], ["slurm={python: /v/bin, code: /c}"]])
def test_nodes_run_this_code_or_the_one_named(settings: list[str], tmp_path: Path, asked: dict[str, Any]) -> None:
    slurm, job = request(tmp_path, settings, 1)
    slurm.executor(job)
    binaries, code = ("/v/bin", "/c") if settings else (Path(sys.executable).parent, Path(__file__).parents[3])
    assert (asked["env_vars"]["PATH"], asked["env_vars"]["PYTHONPATH"]) == (f'{binaries}:"$PATH"', str(code))


@pytest.mark.parametrize("answer", ["slurm_tunnel://nemo_run/17", "slurm_tunnel://nemo_run/17;gpu"])
def test_a_submitted_job_has_slurms_number(
    answer: str, tmp_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm, job = request(tmp_path, [], 1)
    (job.output / SCRIPT_LOG).write_text("of an earlier attempt")
    monkeypatch.setattr(backend.nemo_run, "submit", lambda job, executor: answer)
    assert slurm.submit(job) == "17"
    assert not (job.output / SCRIPT_LOG).exists()


@pytest.mark.parametrize("login", [{}, {"ssh": {"host": "login", "user": "me"}}])
def test_only_a_connection_over_ssh_is_closed(
    login: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    cluster = load_cluster("slurm").model_copy(update={"slurm": SlurmCluster.model_validate(login)})
    slurm = Slurm(cluster, tmp_path)
    monkeypatch.setitem(backend._tunnels, slurm._key, SimpleNamespace(cleanup=lambda: closed.append(True)))
    slurm.close()
    slurm.close()
    assert closed == [True] * bool(login)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (["defaults.time_limit_minutes=null"], (None, None, None, [], None)),
        (
            ["slurm={exclusive: true, qos: high}", "defaults.time_limit_minutes=90"],
            (True, "high", "0-01:30:00", [], None),
        ),
        (
            ["defaults={image: 'a:1', mounts: ['/m:/m']}"],
            (None, None, "0-04:00:00", ["{store}:{store}", "/m:/m"], "a:1"),
        ),
    ],
)
def test_only_what_is_set_is_asked_of_slurm(
    settings: list[str], wanted: tuple[Any, ...], tmp_path: Path, asked: dict[str, Any]
) -> None:
    slurm, job = request(tmp_path, settings, 1)
    slurm.executor(job)
    found = tuple(asked[name] for name in ("exclusive", "qos", "time", "container_mounts", "container_image"))
    mounts = [mount.format(store=tmp_path) for mount in wanted[3]]
    assert found == (*wanted[:3], mounts, wanted[4])


def test_a_command_that_fails_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As invoke runs it, which NeMo-Run's tunnels use: nothing is raised, and nobody is asked for input."""
    from invoke import Config, Context

    slurm = Slurm(load_cluster("slurm"), tmp_path)
    monkeypatch.setattr(backend.nemo_run, "prepare", lambda store: None)
    monkeypatch.setitem(backend._tunnels, slurm._key, Context(Config({"run": {"hide": True}})))
    answer = slurm._ask("echo no such job >&2; exit 3")
    assert (answer.ok, answer.exited, answer.stderr) == (False, 3, "no such job\n")
    assert slurm._run("echo 17") == "17\n"


RUNS, WAITS, GOOD = "RUNNING|None|n1|x", "PENDING|Resources||N/A", "COMPLETED|None|n2|x"
ENDED = "job exited with code {0}\n"


@pytest.mark.parametrize(
    ("lines", "script", "status"),
    [
        ([RUNS, RUNS, GOOD], [], JobStatus(phase="running", detail="2 of 3 ranks run, on n1")),
        ([RUNS, WAITS], [1], JobStatus(phase="running", detail="1 of 3 ranks run, on n1")),
        ([WAITS, GOOD], [0], JobStatus(phase="queued", detail="queued (Resources)")),
        ([GOOD, GOOD, GOOD], [], JobStatus(phase="done", detail="all 3 ranks ended")),
        ([GOOD], [0, 0, 0], JobStatus(phase="done", detail="all 3 ranks ended")),
        ([GOOD, GOOD], [0, 0], JobStatus(phase="failed", detail="some of 3 ranks failed")),
        ([GOOD], [0, 137, 0], JobStatus(phase="failed", detail="1 of 3 ranks failed")),
        (["FAILED|x|n1|x", GOOD, GOOD], [0, 0, 137], JobStatus(phase="failed", detail="1 of 3 ranks failed")),
        (
            ["FAILED|x|n1|x", "OUT_OF_MEMORY|x|n1|x", GOOD],
            [],
            JobStatus(phase="failed", detail="2 of 3 ranks failed", cause="memory"),
        ),
    ],
)
def test_the_states_of_an_array(
    lines: list[str], script: list[int], status: JobStatus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = Login(monkeypatch, squeue="\n".join(lines) + "\n")
    (tmp_path / SCRIPT_LOG).write_text("".join(map(ENDED.format, script)))
    assert Slurm(load_cluster("slurm"), tmp_path).status("17_[0-2]", tmp_path / "job.log") == status
    assert login.asked == ["squeue -h -t all -j 17 -o '%T|%r|%N|%S'"]


def test_an_array_that_slurm_forgot_left_its_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login, slurm, log = Login(monkeypatch), Slurm(load_cluster("slurm"), tmp_path), tmp_path / "job.log"
    script = tmp_path / SCRIPT_LOG
    for codes, phase in (([0, 0], "done"), ([0, 1], "failed"), ([0], "lost")):
        script.write_text("".join(map(ENDED.format, codes)))
        assert slurm.status("17_[0-1]", log).phase == phase
    login.answers["sacct"] = "COMPLETED|0:0|n1|x\nFAILED|1:0|n1|x\n"
    script.write_text("")
    assert slurm.status("17_[0-1]", log).phase == "failed"


@pytest.mark.parametrize(("array", "wanted"), [(1, None), (2, "0-1"), (5, "0-4")])
def test_an_array_is_numbered_from_zero(array: int, wanted: str | None, tmp_path: Path, asked: dict[str, Any]) -> None:
    slurm, job = request(tmp_path, ["defaults.gpus_per_node=8"], 1)
    slurm.executor(dataclasses.replace(job, array=array))
    assert (asked["array"], asked["gpus_per_node"]) == (wanted, 1 if array == 1 else None), "an array needs no GPU"
    assert ("--open-mode=append" in asked["srun_args"]) == (array > 1)
    assert ("export IMBIK_ARRAY_RANK=$SLURM_ARRAY_TASK_ID" in asked["setup_lines"]) == (array > 1)


def test_an_array_is_found_and_cancelled_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = Login(monkeypatch, squeue="17_0\n17_[1-4]\n", scancel="")
    slurm = Slurm(load_cluster("slurm"), tmp_path)
    assert slurm.find("imbik-1-curate") == "17"
    slurm.cancel("17_[0-4]", hard=False)
    assert login.asked[-1] == "scancel 17"
