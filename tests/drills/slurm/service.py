"""A real Slurm of two nodes on this machine: munge, slurmctld and two slurmd, in a folder of their own.

`python -m tests.drills.slurm.service FOLDER [PORT]` runs it until Ctrl-C and prints what a shell needs to use it;
`running` is the same for tests. Everything it started ends with it, jobs included; started again in the same folder it
ends what an earlier one left there. The nodes' GPUs are ordinary files, which Slurm counts like any other. `login` is
sshd with a key of its own, as a login node has it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
NODES = ("n1", "n2")
PORT = 18170
START_SECONDS = 30.0

CONF = """\
ClusterName=imbik{controller}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=5
MpiDefault=none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended.txt
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmdTimeout=300
{nodes}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=n1,n2 MaxTime=INFINITE State=UP
PartitionName=cpu Nodes=n2 MaxTime=INFINITE State=UP
"""


def absent() -> str | None:
    """Why Slurm cannot run here, or None."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"{missing[0]} is not installed (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "slurmctld and munged are started as root, which this user is not"


@contextlib.contextmanager
def running(folder: Path, port: int = PORT) -> Iterator[dict[str, str]]:
    """Slurm in `folder`, on `port` and the two behind it; yields the environment that its commands need."""
    folder.mkdir(parents=True, exist_ok=True)
    _end(folder)
    environment = {"SLURM_CONF": str(_configure(folder, port))}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in _commands(folder):
            log = (folder / f"{Path(command[0]).name}.out").open("ab")
            started.append(
                subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True)
            )
            log.close()
            if "munged" in command[0]:
                _wait(lambda: (folder / "munge.sock").exists(), f"munged did not start; see {folder}/munged.log")
        _wait(lambda: _idle(environment), f"the nodes did not come up; see {folder}/slurmctld.log")
        yield environment
    finally:
        subprocess.run(
            ["scancel", "--signal=KILL", "--full", "--user=root"],
            env=os.environ | environment,
            check=False,
            capture_output=True,
        )
        _end(folder)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def without_ssh() -> str | None:
    """Why no login node can run here, or None."""
    missing = [
        name for name in ("sshd", "ssh", "rsync") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    return f"{missing[0]} is not installed (apt-get install openssh-server rsync)" if missing else absent()


@contextlib.contextmanager
def login(folder: Path, slurm: dict[str, str]) -> Iterator[int]:
    """sshd on loopback, whose sessions use `slurm`; yields its port. `folder` has a key that it lets in as root, `id`;
    `home`, whose .ssh/known_hosts knows it; and `bin/ssh`, which reads that file rather than the user's."""
    known = folder / "home" / ".ssh" / "known_hosts"
    for path in (known.parent, folder / "bin", Path("/run/sshd")):
        path.mkdir(parents=True, exist_ok=True)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -o UserKnownHostsFile={known} "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
    variables = " ".join(f"{name}={value}" for name, value in slurm.items())
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "id.pub",
    }
    options |= {
        "PasswordAuthentication": "no",
        "UsePAM": "no",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "PidFile": "none",
    }
    (folder / "sshd.conf").write_text(
        "".join(f"{name} {value}\n" for name, value in options.items()) + f"SetEnv {variables}\n"
    )
    with (folder / "sshd.log").open("ab") as log:
        sshd = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd.conf"], stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(
            lambda: "Server listening" in (folder / "sshd.log").read_text(),
            f"sshd did not start; see {folder}/sshd.log",
        )
        yield port
    finally:
        sessions = psutil.Process(sshd.pid).children(recursive=True)
        for process in (*sessions, sshd):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        sshd.wait(10)


def _configure(folder: Path, port: int) -> Path:
    (folder / "state").mkdir(exist_ok=True)
    key = folder / "munge.key"
    if not key.exists():
        key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu File={folder}/gpu-{name}\n" for name in NODES))
    for name in NODES:
        (folder / f"gpu-{name}").touch()
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port + number} CPUs=2 RealMemory=4000 Gres=gpu:1"
        " State=UNKNOWN"
        for number, name in enumerate(NODES, 1)
    )
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, controller=port, nodes=nodes))
    return conf


def _commands(folder: Path) -> list[list[str]]:
    munge = [
        f"--{name}={folder}/munge.{end}" for name, end in (("socket", "sock"), ("key-file", "key"), ("pid-file", "pid"))
    ]
    munge += [
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
        "--force",
        "--foreground",
        "--num-threads=2",
    ]
    return [["/usr/sbin/munged", *munge], ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in NODES)]


def _idle(environment: dict[str, str]) -> bool:
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%T %D"], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split() == ["idle", str(len(NODES))]


def _wait(what: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not what():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError(told)
        time.sleep(0.1)


def _end(folder: Path) -> None:
    """End every process that has to do with the folder: daemons and the steps of their jobs."""
    ours = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            text = [*process.cmdline(), *process.environ().values()]
            if process.name() in ("munged", "slurmctld", "slurmd", "slurmstepd") and any(
                str(folder) in word for word in text
            ):
                ours.append(process)
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(ours, 8)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    if why := absent():
        sys.exit(why)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else PORT) as variables:
        print(" ".join(f"export {name}={value}" for name, value in variables.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
