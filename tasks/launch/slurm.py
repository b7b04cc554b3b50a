"""Slurm as a backend: submits with NeMo-Run's SlurmExecutor, follows with squeue and cancels with scancel through the
same tunnel.

NeMo-Run itself uses `sacct`, which needs an accounting database; this also works without one.
"""

from __future__ import annotations

import math
import random
import re
import shlex
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.cluster import Cluster, SlurmCluster
from conf.spec import RANK_OF_ARRAY, TIME_LIMIT
from tasks.launch import nemo_run, ssh
from tasks.launch.backend import SCRIPT_LOG, Cause, JobRequest, JobStatus, Phase, Unreachable

INHERITED = ("PATH", "LD_LIBRARY_PATH", "CUDA_HOME", "LANG")
"""Variables that a job inherits from the submitting environment; sbatch would pass everything, including tokens."""

PORTS = 4000
ASK_SECONDS = 60
"""Timeout of one Slurm command; the commands themselves give up earlier."""

UNKNOWN_JOB = "Invalid job id"
"""squeue's error for a job that the controller has forgotten; other errors mean that the controller did not answer."""

WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "REQUEUE_FED")
ALIVE = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
CAUSES: dict[str, Cause] = {
    "TIMEOUT": "time",
    "DEADLINE": "time",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "OUT_OF_MEMORY": "memory",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
}
HOPELESS = (
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "QOSMaxNodePerJobLimit",
    "QOSMaxWallDurationPerJobLimit",
    "AssocMaxNodesPerJobLimit",
    "JobHeldAdmin",
)
"""Reasons for which a job would wait forever."""

ITS_ID, ITS_ID_OF_ARRAY = '"$SLURM_JOB_ID"', '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'
"""How a job names itself; one of an array has the number of the whole array, or one of its own."""

TIME_LEFT = (
    """left=$(squeue -h -j "$SLURM_JOB_ID" -o %L | awk '{d=0; s=$0; """
    """if (split(s,a,"-")==2) {d=a[1]; s=a[2]}; n=split(s,b,":"); t=0; for (i=1;i<=n;i++) t=t*60+b[i]; """
    """if (s ~ /^[0-9:]+$/) print d*86400+t}')"""
)
"""Remaining seconds of the allocation at the start of the job, whichever limit applies."""


@dataclass(frozen=True)
class Slurm:
    """A Slurm cluster, used from this machine or over SSH."""

    cluster: Cluster
    store: Path

    @property
    def settings(self) -> SlurmCluster:
        """The cluster's section slurm."""
        return self.cluster.slurm or SlurmCluster()

    @property
    def poll_seconds(self) -> float:
        """Seconds between calls of squeue."""
        return self.settings.poll_seconds

    def check(self, job: JobRequest) -> None:
        """Raise ValueError if the login node is unreachable, or the store's path cannot be used unquoted in NeMo-Run's
        shell scripts."""
        if not re.fullmatch(r"[\w@%+=:,./-]+", str(job.store)):
            raise ValueError(
                f"the store {job.store} has characters in its path that a Slurm script does not support; choose another"
                " --store"
            )
        try:
            self._ask("true")
        except Unreachable as error:
            raise ValueError(str(error)) from error

    def submit(self, job: JobRequest) -> str:
        """Submit with sbatch; returns Slurm's job id."""
        (job.output / SCRIPT_LOG).unlink(missing_ok=True)
        number = nemo_run.submit(job, self.executor(job)).rpartition("/")[2].partition(";")[0]
        return f"{number}_[0-{job.array - 1}]" if job.array > 1 else number

    def find(self, name: str) -> str | None:
        """Id of a queued or running job with this name."""
        ids = self._run(f"squeue -h --me --name={name} -o %i").split()
        return ids[0].partition("_")[0] if ids else None

    def status(self, job: str, log: Path) -> JobStatus:
        """State from squeue, which knows a job until some minutes after its end; else from sacct, if available; else
        from the job's script."""
        job, array = _parts(job)
        answer = self._ask(f"squeue -h -t all -j {job} -o '%T|%r|%N|%S'")
        line = str(answer.stdout).strip()
        script_status = _left_by(log.with_name(SCRIPT_LOG), array)
        if not answer.ok and UNKNOWN_JOB not in str(answer.stderr) and script_status.phase == "lost":
            raise Unreachable((str(answer.stderr).strip().splitlines() or ["squeue failed"])[-1])
        if not line and (accounting := self._run(f"sacct -n -X -P -j {job} -o State,ExitCode,NodeList,End").strip()):
            line = accounting
        if array > 1 and line:
            return _status_of_array(line.splitlines(), array, log.with_name(SCRIPT_LOG))
        if line:
            state, reason, nodes, when = [*line.splitlines()[0].split("|"), "", "", ""][:4]
            return _status_of(state.split()[0], reason, nodes, when)
        return script_status

    def cancel(self, job: str, *, hard: bool) -> None:
        """scancel: SIGTERM to every rank, then SIGKILL after the cluster's grace period; SIGKILL at once if `hard`."""
        self._run(f"scancel {'--signal=KILL --full ' if hard else ''}{_parts(job)[0]}")

    def close(self) -> None:
        """Close the connection to the login node."""
        tunnel = _tunnels.pop(self._key, None)
        if tunnel and self.settings.ssh:
            tunnel.cleanup()

    def executor(self, job: JobRequest) -> Any:
        """NeMo-Run's executor for a job."""
        from nemo_run import Packager, SlurmExecutor

        resources, settings = job.resources, self.settings
        rank_of = [RANK_OF_ARRAY] if job.array > 1 else []
        asks = settings.gpu_request == "gres" and not rank_of  # an array curates, which takes processors alone
        gpus = min(job.ranks, resources.gpus_per_node) if asks else 0
        environment = self._environment(job)
        return SlurmExecutor(
            account=resources.account,
            partition=resources.queue,
            qos=settings.qos,
            constraint=settings.constraint,
            exclusive=settings.exclusive or None,
            time=_clock(resources.time_limit_minutes) if resources.time_limit_minutes else None,
            nodes=job.nodes,
            ntasks_per_node=job.ranks,
            gpus_per_node=gpus or None,
            cpus_per_task=resources.cpus,
            mem=f"{math.ceil(resources.memory_gb * 1e9 / 2**20)}M" if resources.memory_gb else None,
            srun_args=[
                "--output",
                str(job.log),
                *([f"--cpus-per-task={resources.cpus}"] if resources.cpus else []),
                *(["--open-mode=append"] if job.array > 1 else []),  # all ranks write to one log
            ],  # srun does not inherit it from sbatch
            container_image=resources.image,
            container_mounts=[f"{job.store}:{job.store}", *resources.mounts] if resources.image else [],
            container_env=sorted([*environment, *rank_of]) if resources.image else None,
            env_vars={name: value if name == "PATH" else shlex.quote(value) for name, value in environment.items()},
            array=f"0-{job.array - 1}" if job.array > 1 else None,
            setup_lines="\n".join(
                [
                    "export SLURM_EXPORT_ENV=ALL",
                    *(f"export {name}=$SLURM_ARRAY_TASK_ID" for name in rank_of),
                    TIME_LEFT.replace(ITS_ID, ITS_ID_OF_ARRAY) if rank_of else TIME_LEFT,
                    f'[ -z "$left" ] || export {TIME_LIMIT}=$left',
                ]
            ),
            additional_parameters={
                "export": ",".join([*INHERITED, *self.cluster.secrets]),
                "output": str(job.output / SCRIPT_LOG),
            },
            job_name_prefix=job.name.removesuffix(job.stage),
            launcher=nemo_run.torchrun(job, settings.rendezvous_port + random.randrange(PORTS)),
            tunnel=self._tunnel(),
            packager=Packager(),
            poll_estimated_start_time=False,
        )

    def _environment(self, job: JobRequest) -> dict[str, str]:
        if job.resources.image:
            return dict(job.environment)
        binaries, code = (
            self.settings.python or str(Path(sys.executable).parent),
            self.settings.code or str(Path(__file__).parents[2]),
        )
        return {"PATH": f'{shlex.quote(binaries)}:"$PATH"', "PYTHONPATH": code} | job.environment

    @property
    def _key(self) -> str:
        login = self.settings.ssh
        return f"{login.user}@{login.host}:{login.port}:{self.store}" if login else str(self.store)

    def _tunnel(self) -> Any:
        """A NeMo-Run tunnel for one experiment, which sets its folder in it."""
        from nemo_run import LocalTunnel

        folder = str(nemo_run.home(self.store) / "experiments")
        return ssh.tunnel(self.settings.ssh, folder) if self.settings.ssh else LocalTunnel(job_dir=folder)

    def _run(self, command: str) -> str:
        """Output of a command on the login node; empty if it fails."""
        return str(self._ask(command).stdout)

    def _ask(self, command: str) -> Any:
        """Run a command on the login node; the result has stdout, stderr and ok."""
        nemo_run.prepare(self.store)
        with _opening:
            tunnel = _tunnels.get(self._key)
            if tunnel is None or (self.settings.ssh and ssh.closed(tunnel)):
                tunnel = _tunnels[self._key] = self._tunnel()
        return tunnel.run(command, warn=True, in_stream=False, timeout=ASK_SECONDS)


_opening = threading.Lock()
_tunnels: dict[str, Any] = {}


def _clock(minutes: float) -> str:
    """A time limit in Slurm's format, rounded up to minutes."""
    total = math.ceil(minutes)
    return f"{total // 1440}-{total // 60 % 24:02d}:{total % 60:02d}:00"


def _status_of(state: str, reason: str, nodes: str, when: str) -> JobStatus:
    if state in WAITING:
        start = "" if when in ("", "N/A") else f", starts about {when}"
        cause: Cause | None = "never-started" if reason in HOPELESS else None
        return JobStatus(
            phase="queued", detail=f"queued ({reason}{start})" if reason not in ("", "None") else "queued", cause=cause
        )
    if state in ALIVE:
        return JobStatus(phase="running", detail=f"on {nodes}")
    phase: Phase = "done" if state == "COMPLETED" else "failed"
    return JobStatus(phase=phase, detail=f"Slurm reports {state}", cause=CAUSES.get(state))


def _parts(job: str) -> tuple[str, int]:
    """The number by which Slurm knows a job, and of how many an array is, written as 17_[0-3]."""
    number, _, rest = job.partition("_[0-")
    return number, int(rest.removesuffix("]")) + 1 if rest else 1


def _status_of_array(lines: list[str], array: int, script: Path) -> JobStatus:
    """State of an array from a line of each of its jobs; Slurm forgets them one by one, and their scripts say how those
    ended."""
    states = [_status_of(*[*line.split("|"), "", "", ""][:4]) for line in lines]
    running, queued = ([one for one in states if one.phase == phase] for phase in ("running", "queued"))
    if running:
        where = ", ".join(dict.fromkeys(one.detail for one in running))
        return JobStatus(phase="running", detail=f"{len(running)} of {array} ranks run, {where}")
    if queued:
        return queued[0]
    codes = _codes(script)
    failed = [one for one in states if one.phase == "failed"]
    count = max(len(failed), sum(code != "0" for code in codes))
    if not count and array in (len(states), len(codes)):
        return JobStatus(phase="done", detail=f"all {array} ranks ended")
    cause = next((one.cause for one in failed if one.cause), None)
    return JobStatus(phase="failed", detail=f"{count or 'some'} of {array} ranks failed", cause=cause)


def _codes(script: Path) -> list[str]:
    """The exit codes in the log of a job's script."""
    text = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    return re.findall(r"^job exited with code (\d+)$", text, flags=re.MULTILINE)


def _left_by(script: Path, array: int = 1) -> JobStatus:
    """State from the log of the job's script."""
    codes = _codes(script)
    if array > 1 and len(codes) == array:
        return _status_of_array([], array, script)
    if codes and array == 1:
        return JobStatus(phase="done" if codes[-1] == "0" else "failed", detail=f"it exited with {codes[-1]}")
    text = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    ended = re.findall(r"\*\*\* (?:JOB|STEP) .* (CANCELLED|.*TIME LIMIT|.*PREEMPTION|.*NODE FAILURE).* \*\*\*", text)
    return JobStatus(phase="lost", detail="Slurm no longer knows it" + (f" ({ended[-1]})" if ended else ""))
