"""The queue for this machine's cores, how a job is started, and the variables of ranks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from conf.parallel import Parallel
from conf.spec import Spec
from tasks.launch import local
from tasks.launch.errors import JobFailed, Stopped
from tasks.launch.forkserver import ForkedJob
from tasks.launch.local import LocalLauncher, _Cores, _ranks

LONG = 5.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def queue(total: int) -> _Cores:
    """Cores whose waiting jobs look again only when they are woken."""
    cores = _Cores(total)
    wait = cores._changed.wait
    cores._changed.wait = lambda timeout=None: wait()  # type: ignore[method-assign]
    return cores


class Job(threading.Thread):
    """Holds cores until it is told to end."""

    def __init__(self, cores: _Cores, wanted: int, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self.cores, self.wanted, self.stopped = cores, wanted, stopped
        self.begun, self.finish = threading.Event(), threading.Event()
        queued = len(cores._queue)
        self.start()
        until(lambda: self.begun.is_set() or len(cores._queue) > queued)

    def run(self) -> None:
        with self.cores.hold(self.wanted, self.stopped):
            self.begun.set()
            self.finish.wait(LONG)

    def end(self) -> None:
        self.finish.set()
        self.join(LONG)


def test_jobs_run_together_as_long_as_cores_last() -> None:
    cores, stopped = queue(3), threading.Event()
    one, two, three = Job(cores, 1, stopped), Job(cores, 2, stopped), Job(cores, 1, stopped)
    until(lambda: one.begun.is_set() and two.begun.is_set())
    assert not three.begun.wait(0.03) and cores._free == 0
    one.end()
    assert three.begun.wait(LONG)
    two.end()
    three.end()
    assert (cores._free, cores._queue) == (3, [])


def test_a_small_job_does_not_pass_a_large_one() -> None:
    cores, stopped = queue(2), threading.Event()
    first, large, small = Job(cores, 1, stopped), Job(cores, 2, stopped), Job(cores, 1, stopped)
    assert not large.begun.wait(0.03)
    assert not small.begun.is_set(), "a core is free, but the large job came first"
    first.end()
    assert large.begun.wait(LONG) and not small.begun.wait(0.03)
    large.end()
    assert small.begun.wait(LONG)
    small.end()


def test_a_job_that_wants_more_than_all_gets_all() -> None:
    cores = _Cores(2)
    with cores.hold(5, threading.Event()):
        assert cores._free == 0
    assert cores._free == 2


def test_a_failed_job_frees_its_cores() -> None:
    cores = _Cores(2)
    with pytest.raises(KeyError), cores.hold(2, threading.Event()):
        raise KeyError
    assert (cores._free, cores._queue) == (2, [])


def test_a_stopped_job_leaves_the_queue() -> None:
    cores, stopped = queue(1), threading.Event()
    first, waiting = Job(cores, 1, threading.Event()), Job(cores, 1, stopped)
    stopped.set()
    with cores._changed:
        cores._changed.notify_all()
    assert waiting.begun.wait(LONG)
    waiting.end()
    first.end()
    assert (cores._free, cores._queue) == (1, [])


def test_one_rank_needs_no_variables() -> None:
    assert _ranks(1) == [{}]


def test_ranks_share_an_address_and_differ_in_their_number() -> None:
    ranks = _ranks(3)
    assert [(one["RANK"], one["LOCAL_RANK"]) for one in ranks] == [("0", "0"), ("1", "1"), ("2", "2")]
    for one in ranks:
        assert (one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["MASTER_ADDR"]) == ("3", "3", "127.0.0.1")
    assert len({(one["MASTER_PORT"], one["TORCHELASTIC_RUN_ID"]) for one in ranks}) == 1
    assert _ranks(2)[0]["TORCHELASTIC_RUN_ID"] != ranks[0]["TORCHELASTIC_RUN_ID"]


class Started(LocalLauncher):
    """Notes how each job would be started and on what; it ends with `code`. `warm`: whether the fork server is ready,
    None without one."""

    def __init__(self, warm: bool | None, code: int = 0) -> None:
        super().__init__(warm=False)
        self.how: list[tuple[str, int, str, str | None]] = []
        self.code, self.stops = code, False
        self._warm = None if warm is None else SimpleNamespace(ready=lambda: warm)  # type: ignore[assignment]

    def _noted(self, kind: str, processes: int, variables: dict[str, str]) -> int:
        self.how.append((kind, processes, variables["OMP_NUM_THREADS"], variables.get("CUDA_VISIBLE_DEVICES")))
        if self.stops:
            self._stopped.set()
        return self.code

    def _started(self, spec: Spec, path: Path, log: Path, processes: int, variables: dict[str, str], tail: Any) -> int:
        return self._noted("started", processes, variables)

    def _forked(
        self, spec: Spec, path: Path, log: Path, processes: int, variables: dict[str, str], tail: Any
    ) -> tuple[int, int | None]:
        return self._noted("forked", processes, variables), 1


def run(launcher: LocalLauncher, folder: Path, stage: str = "prune", parallel: Parallel | None = None) -> None:
    listener = SimpleNamespace(line=lambda line: None)
    spec = Spec(stage=stage, key="k", config={}, output=str(folder))
    launcher.run(spec, parallel or Parallel(), lambda line: None, lambda: None, listener)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "warm", "how"),
    [
        ("prune", True, "forked"),
        ("evaluate", True, "forked"),
        ("prune", False, "started"),  # the server died
        ("prune", None, "started"),
        ("fetch", True, "started"),  # needs none of what the server has imported
    ],
)
def test_jobs_are_forked_where_that_saves_time(stage: str, warm: bool | None, how: str, tmp_path: Path) -> None:
    launcher = Started(warm)
    run(launcher, tmp_path, stage)
    assert [kind for kind, *_ in launcher.how] == [how]


@pytest.mark.parametrize(
    ("cores", "processes", "threads", "each"), [(6, 2, None, "3"), (6, 4, None, "1"), (2, 3, None, "1"), (6, 1, 4, "4")]
)
def test_ranks_share_the_cores_of_the_machine(
    cores: int, processes: int, threads: int | None, each: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.os, "cpu_count", lambda: cores)
    launcher = Started(None)
    run(launcher, tmp_path, parallel=Parallel(processes=processes, threads=threads))
    assert launcher.how[0][1:3] == (processes, each)


@pytest.mark.parametrize(("stage", "devices"), [("prune", "3,5"), ("data", None)])
def test_only_a_job_for_gpus_holds_some(
    stage: str, devices: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    monkeypatch.setattr(local.gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    launcher = Started(None)
    run(launcher, tmp_path, stage, Parallel(processes=2))
    assert launcher.how[0][3] == devices


def test_a_failed_job_names_its_rank_unless_the_run_was_stopped(tmp_path: Path) -> None:
    launcher = Started(True, code=-9)
    with pytest.raises(JobFailed, match=r"^prune: rank 1 was ended by SIGKILL"):
        run(launcher, tmp_path)
    launcher.stops = True
    with pytest.raises(Stopped):
        run(launcher, tmp_path)
    with pytest.raises(Stopped):
        run(launcher, tmp_path)
    assert len(launcher.how) == 2, "no job begins in a stopped run"


@pytest.mark.parametrize("processes", [1, 2])
def test_several_ranks_are_started_under_torchrun(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def popen(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        commands.append(command)
        return subprocess.Popen(["true"], **settings)

    monkeypatch.setattr(local, "subprocess", SimpleNamespace(Popen=popen, DEVNULL=subprocess.DEVNULL))
    run(LocalLauncher(warm=False), tmp_path, parallel=Parallel(processes=processes, threads=1))
    job = ["-m", "jobs.prune", "--spec", str(tmp_path / "spec.json")]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    several += ["--log-dir", str(tmp_path / "torchrun")]
    (command,) = commands
    assert command[command.index(sys.executable, 1) :] == [sys.executable, *(several if processes == 2 else []), *job]


def test_ranks_without_the_failed_one_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The killed one is named, although another reports an error first; one that never began is left alone."""
    monkeypatch.setattr(local, "LAST_WORDS_SECONDS", 0.02)
    launcher, jobs = LocalLauncher(warm=False), [ForkedJob() for _ in range(4)]
    for job, code in ((jobs[0], 1), (jobs[2], -9)):
        job.code = code
        job.ended.set()
    process = subprocess.Popen(["sleep", "60"])
    jobs[1].pid = process.pid
    launcher._trees[process.pid] = psutil.Process(process.pid)
    try:
        assert launcher._failed(jobs) == (-9, 2)
        assert not psutil.pid_exists(process.pid) or process.wait(0) == -15
    finally:
        process.kill()
    assert launcher._failed(jobs[:1]) == (1, None)


@pytest.mark.parametrize(("late", "result"), [(0, (0, None)), (7, (7, 1))])
def test_forked_ranks_are_waited_for(late: int, result: tuple[int, int | None], tmp_path: Path) -> None:
    """The first ends at once, before the server says that it began; the second a little later."""
    jobs, asked = [ForkedJob(), ForkedJob()], list[dict[str, Any]]()
    for job in jobs:
        job.pid = 2**22 + 1  # of no process
    jobs[0].code = 0
    jobs[0].ended.set()
    jobs[1].started.set()

    def end() -> None:
        jobs[1].code = late
        jobs[1].ended.set()

    launcher = LocalLauncher(warm=False)
    launcher._warm = SimpleNamespace(submit=lambda request: (asked.append(request), jobs[len(asked) - 1])[1])  # type: ignore[assignment]
    spec, tail = Spec(stage="prune", key="k", config={}, output=str(tmp_path)), SimpleNamespace(read=lambda: None)
    threading.Timer(0.1, end).start()
    with contextlib.ExitStack() as stack:
        stack.read = tail.read  # type: ignore[attr-defined]
        assert launcher._forked(spec, tmp_path / "s", tmp_path / "l", 2, {"A": "b"}, stack) == result  # type: ignore[arg-type]
    assert [(one["stage"], one["environment"]["A"], one["environment"]["RANK"]) for one in asked] == [
        ("prune", "b", "0"),
        ("prune", "b", "1"),
    ]


class Process:
    """As much of psutil's process as is ended."""

    def __init__(self, name: str, *started: Process) -> None:
        self.name, self.started, self.signals = name, started, list[str]()

    def children(self, recursive: bool = False) -> list[Process]:
        below = [one for child in self.started for one in child.children(True)] if recursive else []
        return [*self.started, *below]

    def terminate(self) -> None:
        self.signals.append("terminated")
        if self.name == "gone":
            raise psutil.NoSuchProcess(1)

    def kill(self) -> None:
        self.signals.append("killed")


def test_processes_of_processes_are_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, stubborn, gone = Process("rank"), Process("stubborn"), Process("gone")
    root = Process("root", Process("torchrun", gone, rank, stubborn))

    def wait_procs(family: list[Process], timeout: float) -> tuple[list[Process], list[Process]]:
        return [], [one for one in family if one.name == "stubborn"]

    monkeypatch.setattr(psutil, "wait_procs", wait_procs)
    local.end_trees([root])  # type: ignore[list-item]
    assert all(one.signals[0] == "terminated" for one in [root, *root.children(recursive=True)])
    assert stubborn.signals == ["terminated", "killed"] and rank.signals == ["terminated"]
