"""What Slurm's answers are taken for; what it is asked is in test_backends.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from conf.cluster import load_cluster
from tasks.launch.backend import JobStatus, Unreachable
from tasks.launch.slurm import Slurm

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
