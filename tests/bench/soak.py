"""An hour of a store that `imbik up` serves: `python -m tests.bench.soak` (200 flow runs; `--minutes 6 --runs 20` for a
look).

Runs come by the API, as the pages start them, and by a schedule: most find everything made, some build, fail and are
retried, are cancelled, are killed with -9, or are wrong. The servers and the worker are stopped and started in between,
once politely and once with -9. At the end every run must be in the state it should be, and nothing may be left:
process, lock, concurrency slot. The memory of servers and worker is looked at all the time."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from flows.doctor import processor
from flows.server.processes import free_port
from flows.server.recovery import GONE
from tasks.tracking.servers import UP
from tests.fixtures.flow import RECIPE, imbik, wait_for
from tests.fixtures.pages import FINAL, ONE_STUDENT, Site, end, recipe, serve

RESULTS = Path(__file__).parent / "results"
PARTS = {"cached": 0.5, "built": 0.12, "retried": 0.1, "refused": 0.06, "cancelled": 0.12, "killed": 0.02}
"""Of all runs; the schedule makes the rest."""
ENDS = {
    "cached": {"Cached"},
    "scheduled": {"Cached"},
    "built": {"Completed"},
    "retried": {"Completed", "Cached"},  # a retry of what was in flight at a restart may find it made
    "refused": {"Failed"},
    "cancelled": {"Cancelled"},
    "killed": {"Crashed"},
}
SMALL = ("students.width=null", "students.depth.quantize=false", "distill=null")
LONG = (*SMALL, "teacher.steps=4000")
PARTICIPANTS = {
    "imbik up": "flows.cli up",
    "worker": "worker start",
    "Prefect server": "flows.server.sqlite_retry",
    "MLflow server": "mlflow",
}
"""By what their command lines hold; the first that fits, for `imbik up` names MLflow's port."""
GONE_SECONDS = 30.0
"""A cancelled run's processes are gone after this."""


@dataclass
class Run:
    """One flow run: what it is for, and what has been done to it so far."""

    kind: str
    number: int
    at: float
    id: str = ""
    text: Path | None = None
    cancelled: float | None = None
    gone: float | None = None
    treated: bool = False
    interrupted: bool = False
    again: int = 0


@dataclass
class Soak:
    """The store under load, its runs, and what was seen of it."""

    folder: Path
    minutes: float
    count: int
    runs: list[Run] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    restarts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store, self.ports = self.folder / "store", (free_port(), free_port())
        self.site = Site(store=self.store, pages=f"http://127.0.0.1:{self.ports[0]}", receiver="")
        self.begun = 0.0

    def up(self) -> subprocess.Popen[str]:
        """`imbik up`, once it serves."""
        with (self.folder / "up.log").open("a") as log:
            return serve(self.store, self.ports, stdout=log, stderr=log)

    def prepare(self) -> None:
        """Two deployments of a recipe of one student, automations, a first run that builds it, a schedule."""
        other = self.folder / "other.yaml"
        other.write_text(f"extends: {ONE_STUDENT}\n")
        automations = RECIPE.parents[2] / "deploy" / "automations.yaml"
        self.said(
            "deploy",
            str(ONE_STUDENT),
            str(other),
            "--automations",
            str(automations),
            "--notify",
            "http://127.0.0.1:9/nobody",
        )
        assert self.site.end(self.site.begin("compress/one-student"))["type"] == "COMPLETED"
        every = max(1.0, self.minutes / (self.count * (1 - sum(PARTS.values())) + 1))
        self.said("schedule", str(ONE_STUDENT), "--name", "nightly", "--every", f"{every:.2f}")

    def said(self, *command: str) -> None:
        """One command of a user, which must succeed."""
        done = imbik(*command, store=self.store)
        assert done.returncode == 0, done.stderr

    def plan(self, seed: int = 7) -> None:
        """What is started when: kinds mixed, evenly over the time."""
        draw, kinds = (
            random.Random(seed),
            [kind for kind, part in PARTS.items() for _ in range(round(part * self.count))],
        )
        draw.shuffle(kinds)
        for number, kind in enumerate(kinds):
            self.runs.append(
                Run(kind=kind, number=number, at=self.minutes * 60 * (number + draw.random()) / len(kinds))
            )

    def begin(self, run: Run) -> None:
        """Start a run as the form would."""
        flow = "compress/one-student" if run.number % 2 else "compress/other"
        if run.kind == "cached":
            run.id = self.site.begin(flow)
        elif run.kind == "built":
            run.id = self.site.begin(
                flow, recipe=recipe(*SMALL, f"teacher.seed={1000 + run.number}"), name=f"built-{run.number}"
            )
        elif run.kind == "retried":
            run.text = self.folder / f"text-{run.number}.txt"
            given = {"source": str(run.text), "vocab_size": 300}
            run.id = self.site.begin("prepare/a-corpus", data=given, name=f"text-{run.number}")
        elif run.kind == "refused":
            wrong = recipe()
            wrong["students"]["depth"]["prune"]["num_layers"] = 9
            run.id = self.site.begin(flow, recipe=wrong, name="refused")
        else:
            run.id = self.site.begin(
                flow, recipe=recipe(*LONG, f"teacher.seed={1000 + run.number}"), name=f"long-{run.number}"
            )

    def treat(self, run: Run) -> None:
        """Do to a run what its kind says, once it is far enough."""
        if run.cancelled and run.gone is None and not self.alive(run):
            run.gone = time.monotonic() - run.cancelled
        if run.treated or run.kind not in ("retried", "cancelled", "killed"):
            return
        state = self.site.state(run.id)
        if run.kind == "retried" and state["type"] in ("FAILED", "CRASHED"):
            assert run.text is not None
            run.text.write_text("".join(f"a sentence of number {number} for {run.number}\n" for number in range(300)))
            self.site.retry(run.id)
        elif run.kind != "retried" and state["type"] == "RUNNING" and self.training(run):
            if run.kind == "cancelled":
                self.site.api(f"flow_runs/{run.id}/set_state", {"state": {"type": "CANCELLING"}})
                run.cancelled = time.monotonic()
            else:
                for pid in self.alive(run):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        elif state["type"] not in FINAL:
            return
        else:
            run.again += 1  # ended before it could be treated, by a restart: once more
            self.site.retry(run.id) if run.again < 3 else None
            return
        run.treated = True

    def training(self, run: Run) -> bool:
        """Whether a long run has come to its teacher."""
        tasks = self.site.api("task_runs/filter", {"flow_runs": {"id": {"any_": [run.id]}}, "limit": 50})
        return any(task["name"] == "teacher" and task["state"]["type"] == "RUNNING" for task in tasks)

    def alive(self, run: Run) -> list[int]:
        """Processes of a run: the flow's, known by the run's id, and those of its jobs below it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("PREFECT__FLOW_RUN_ID", "").replace("-", "") == run.id.replace("-", ""):
                    found.append(process.pid)
        return found

    def drive(self) -> None:
        """The whole time: start what is due, treat what is far enough, restart the servers twice, look at memory."""
        running, self.begun = self.up(), time.monotonic()
        try:
            self.prepare()
            self.plan()
            self.begun, stops = time.monotonic(), [(1 / 3, signal.SIGTERM), (2 / 3, signal.SIGKILL)]
            waiting, sampled = list(self.runs), 0.0
            while waiting or self.now < self.minutes * 60:
                while waiting and waiting[0].at <= self.now:
                    self.patiently(self.begin, waiting.pop(0))
                for run in self.runs:
                    if run.id and (not run.treated or (run.cancelled and run.gone is None)):
                        self.patiently(self.treat, run)
                if stops and self.now > stops[0][0] * self.minutes * 60:
                    running = self.restart(running, stops.pop(0)[1])
                if self.now - sampled > 15:
                    sampled = self.now
                    self.samples.append(self.sample())
                time.sleep(1)
            self.said("unschedule", "nightly")
            self.settle()
            with contextlib.suppress(AssertionError):  # then it is told
                wait_for(lambda: not self.site.working(), GONE_SECONDS, "processes of runs are left")
            self.samples.append(self.sample())
            self.outcome = self.judge()
        finally:
            end(running, signal.SIGTERM, self.store)

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.begun

    def patiently(self, what: Any, run: Run) -> None:
        """SQLite's server answers 503 when it is busy; a page would show that and be clicked again."""
        with contextlib.suppress(urllib.error.HTTPError, TimeoutError):
            what(run)

    def restart(self, running: subprocess.Popen[str], how: signal.Signals) -> subprocess.Popen[str]:
        """Stop `imbik up` with a signal, see that nothing is left, and start it again; runs in flight are noted."""
        flying = [run for run in self.runs if run.id and self.site.state(run.id)["type"] not in FINAL]
        for run in flying:
            run.interrupted = True
        begun = time.monotonic()
        gone = end(running, how, self.store)
        again = self.up()
        self.restarts.append(
            {
                "at": round(self.now),
                "signal": how.name,
                "in flight": len(flying),
                "all gone after": round(gone, 1),
                "serving after": round(time.monotonic() - begun, 1),
            }
        )
        return again

    def settle(self) -> None:
        """Wait for every run to end; one that a restart ended is retried, as somebody would."""
        deadline = time.monotonic() + 1800
        while time.monotonic() < deadline:
            open_ = [run for run in self.runs if not run.id or not self.settled(run)]
            if not open_ and not self.site.api(
                "flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
            ):
                return
            for run in open_:
                self.patiently(self.treat if run.id else self.begin, run)
            time.sleep(2)

    def settled(self, run: Run) -> bool:
        """Whether a run is where it will stay."""
        state = self.site.state(run.id)
        if state["type"] not in FINAL or (
            run.kind in ("retried", "cancelled", "killed") and not run.treated and run.again < 3
        ):
            return False
        if (
            run.interrupted
            and state["name"] not in ENDS[run.kind]
            and not run.again
            and run.kind in ("cached", "built", "retried")
        ):
            run.again += 1
            self.site.retry(run.id)
            return False
        return not (run.cancelled and run.gone is None)

    def sample(self) -> dict[str, Any]:
        """Memory in MB, open files and threads of each participant, and the sizes of the databases."""
        found: dict[str, Any] = {"at": round(self.now)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if (
                    str(self.store) not in line + " ".join(process.environ().values())
                    or "PREFECT__FLOW_RUN_ID" in process.environ()
                ):
                    continue
                name = next((name for name, mark in PARTICIPANTS.items() if mark in line), None)
                if name:
                    one = found.setdefault(name, {"MB": 0.0, "files": 0, "threads": 0})
                    one["MB"] += process.memory_full_info().uss / 1e6
                    one["files"] += process.num_fds()
                    one["threads"] += process.num_threads()
        for name, file in (("Prefect database", "prefect/prefect.db"), ("MLflow database", "mlflow.db")):
            found[name] = sum(path.stat().st_size for path in self.store.glob(f"{file}*")) / 1e6
        return found

    def judge(self) -> dict[str, Any]:
        """The states of runs by kind, and what is left."""
        every = [
            run
            for offset in range(0, 2000, 200)
            for run in self.site.api("flow_runs/filter", {"limit": 200, "offset": offset})
        ]
        states = {run["id"]: run["state"]["name"] for run in every}
        kinds = {run.id: run.kind for run in self.runs} | {
            run["id"]: "scheduled" for run in every if run["name"] == "nightly"
        }
        table: dict[str, Counter[str]] = {}
        for run, kind in kinds.items():
            table.setdefault(kind, Counter())[states[run]] += 1
        taken = {
            run["id"] for run in every if run["name"] == "nightly" and run["state"]["message"] == GONE
        }  # by a restart; nobody retries
        wrong = [
            (kind, run, states[run])
            for run, kind in kinds.items()
            if states[run] not in ENDS[kind] and run not in taken
        ]
        limits = self.site.api("v2/concurrency_limits/filter", {})
        return {
            "states": {kind: dict(count) for kind, count in table.items()},
            "runs": len(kinds),
            "wrong": wrong,
            "processes left": self.site.working(),
            "locks held": [str(path) for path in self.store.rglob("*.lock") if path.name != UP and held(path)],
            "slots held": sum(limit["active_slots"] for limit in limits),
            "seconds to be gone after a cancel": sorted(
                round(run.gone, 1) for run in self.runs if run.gone is not None
            ),
        }


def held(path: Path) -> bool:
    """Whether some process holds this lock."""
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def memory(samples: list[dict[str, Any]], restarts: list[int]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Of each participant, for each time between restarts: MB in its first fifth and in its last."""
    bounds = [0, *restarts, 1 << 30]
    rows = []
    for name in PARTICIPANTS:
        parts = []
        for low, high in itertools.pairwise(bounds):
            values = [sample[name]["MB"] for sample in samples if low < sample["at"] <= high and name in sample]
            part = max(1, len(values) // 5)
            parts += [(statistics.median(values[:part]), statistics.median(values[-part:]))] if values else []
        rows.append((name, parts))
    return rows


def written(soak: Soak, command: str) -> str:
    """The results, for people."""
    found = soak.outcome
    lines = [f"# Soak: {found['runs']} flow runs in {soak.minutes:g} minutes through `imbik up`", ""]
    lines += [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {processor.kind()}, Python {platform.python_version()},"
        f" Prefect {version('prefect')}, "
    ]
    lines[-1] += f"MLflow {version('mlflow')}; `{command}`."
    lines += ["", "| kind | runs | ended as |", "|---|---|---|"]
    for kind, states in sorted(found["states"].items()):
        lines.append(
            f"| {kind} | {sum(states.values())} | {', '.join(f'{count} {state}' for state, count in states.items())} |"
        )
    gone = found["seconds to be gone after a cancel"]
    lines += ["", f"Not as they should be: {len(found['wrong'])}. Processes left: {len(found['processes left'])}. "]
    lines[-1] += f"Locks held: {len(found['locks held'])}. Concurrency slots held: {found['slots held']}."
    lines += (
        [f"Cancelled runs were gone, every process, after {statistics.median(gone)} s (median), {gone[-1]} s at most."]
        if gone
        else []
    )
    lines += [
        "",
        "| restart | at | runs in flight | every process gone after | serving again after |",
        "|---|---|---|---|---|",
    ]
    for one in soak.restarts:
        lines.append(
            f"| {one['signal']} | {one['at']} s | {one['in flight']} | {one['all gone after']} s |"
            f" {one['serving after']} s |"
        )
    lines += ["", "Memory of its own in MB, in the first and the last fifth of the time between restarts:", ""]
    lines += ["| | until the first restart | until the second | to the end |", "|---|---|---|---|"]
    for name, parts in memory(soak.samples, [one["at"] for one in soak.restarts]):
        lines.append(f"| {name} | {' | '.join(f'{first:.0f} -> {last:.0f}' for first, last in parts)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it, write the results, and say whether every run was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="imbik-soak-"))
    soak = Soak(folder=folder, minutes=given.minutes, count=given.runs)
    soak.drive()
    command = f"python -m tests.bench.soak --minutes {given.minutes:g} --runs {given.runs}"
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "soak.md").write_text(written(soak, command))
    body = {"command": command, "outcome": soak.outcome, "restarts": soak.restarts, "samples": soak.samples}
    (given.results / "soak.json").write_text(json.dumps(body, indent=1) + "\n")
    print(written(soak, command))
    bad = (
        soak.outcome["wrong"]
        or soak.outcome["processes left"]
        or soak.outcome["locks held"]
        or soak.outcome["slots held"]
    )
    if not bad:
        shutil.rmtree(folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
