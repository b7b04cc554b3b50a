"""What MLflow costs a job: its steps while a flow tells MLflow of it, by how the server behaves.

`python -m tests.bench.tracking [PAIRS]` writes tests/bench/results/tracking.{json,md}; two seconds a pair and mode, 100
pairs unless told, so 17 minutes on a machine that does nothing else. One real job trains on one thread. A process for
each mode follows its metrics as a flow does and tells a tracker of them: a healthy server on this machine, one that
answers after 5 s, one that is not there, one that answers 500, and for the noise nobody. All are stopped but one, which
runs every other second; which of a pair's two seconds it runs in is drawn. So a mode is compared with the seconds
beside it, and what else befalls the machine befalls both. A process that was stopped for a second finds two seconds'
lines when it goes on: what a flow does in a second is done twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from conf.load import load
from flows.doctor import processor
from flows.server.processes import free_port
from jobs.runtime.system_metrics import Sampler
from tasks.tracking.tracker import Tracker
from tests.fixtures.mlflow import Proxy, served

RESULTS = Path(__file__).parent / "results"
RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
MODES = {
    "nobody": "nobody follows: the noise",
    "healthy": "a server on this machine, whose work counts too",
    "slow": "answers after 5 s",
    "away": "nobody listens",
    "failing": "answers 500",
}
BAD = ("slow", "away", "failing")
TURN, SLOW, START = 1.0, 5.0, 15.0
LAYERS, HIDDEN = 4, 64
"""Small on purpose: steps of some 30 ms are far faster than a real job's, so that telling them costs more, not less."""


def job(folder: Path) -> subprocess.Popen[bytes]:
    """A training job that does not end by itself; its metrics are in `folder`/job."""
    recipe = load(str(RECIPE), [])
    assert recipe.teacher.shape
    shape = recipe.teacher.shape.model_copy(
        update={"num_layers": LAYERS, "hidden_size": HIDDEN, "ffn_hidden_size": 3 * HIDDEN}
    )
    endless = {"shape": shape, "steps": 10_000_000, "validate_every": 10_000_000, "checkpoint_every": 10_000_000}
    data, teacher = folder / "data", folder / "job"
    specs = {
        "data": {
            "stage": "data",
            "config": recipe.data.model_dump(mode="json"),
            "inputs": {"source": recipe.data.source},
        },
        "teacher": {"stage": "teacher", "config": recipe.teacher.model_copy(update=endless).model_dump(mode="json")},
    }
    specs["teacher"]["inputs"] = {"data": str(data)}
    running = None
    for stage, output in (("data", data), ("teacher", teacher)):
        output.mkdir()
        (output / "spec.json").write_text(json.dumps(specs[stage] | {"key": stage, "output": str(output)}))
        command = [sys.executable, "-m", f"jobs.{stage}", "--spec", str(output / "spec.json")]
        running = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=(folder / f"{stage}.log").open("w")
        )
        if stage == "data":
            assert running.wait() == 0, (folder / "data.log").read_text()
    assert running
    return running


def follow(metrics: Path, store: Path, mode: str, uri: str) -> None:
    """A tracker that follows a job's metrics, for good."""
    tracker = Tracker(store, mode, {"project": "bench"}, uri=uri)
    tracker.begin("teacher", "teacher", "key", metrics.parent)
    while True:
        time.sleep(1)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Addresses by mode."""
    with served(folder / "server") as (_, healthy), contextlib.ExitStack() as stack:
        slow, failing = (Proxy(healthy.target, free_port()) for _ in range(2))
        slow.seconds = SLOW
        for proxy, behaves in ((healthy, "ok"), (slow, "slow"), (failing, "error")):
            stack.callback(proxy.turn, "dead")
            proxy.turn(behaves)
        ports = {"healthy": healthy.port, "slow": slow.port, "failing": failing.port, "away": free_port()}
        yield {mode: f"http://127.0.0.1:{port}" for mode, port in ports.items()}


def measure(pairs: int, folder: Path) -> dict[str, Any]:
    """Turns by mode, each the seconds of its steps with and without, and what a sample of the machine costs the job."""
    chance, spawn, turns = random.Random(1), multiprocessing.get_context("spawn"), []
    with servers(folder) as uris, contextlib.ExitStack() as stack:
        running = job(folder)
        stack.callback(lambda: (running.kill(), running.wait()))
        metrics = folder / "job" / "metrics.jsonl"
        while not metrics.exists():
            assert running.poll() is None, (folder / "teacher.log").read_text()
            time.sleep(0.5)
        followers: dict[str, psutil.Process] = {}
        for mode, uri in uris.items():
            child = spawn.Process(target=follow, args=(metrics, folder / f"store-{mode}", mode, uri), daemon=True)
            child.start()
            stack.callback(child.kill)
            followers[mode] = psutil.Process(child.pid)
        time.sleep(START)  # imports and the first tables are a flow's start, not a step's
        for follower in followers.values():
            follower.suspend()
        for number in range(pairs):
            for mode in chance.sample(list(MODES), len(MODES)):
                turns.append(pair(mode, followers.get(mode), chance.random() < 0.5))
            print(number, end=" ", flush=True)
        sample = sampled(folder, running.pid)
        times = [json.loads(line)["time"] for line in metrics.read_text().splitlines()]
    return {"pairs": [steps_of(turn, times) for turn in turns], "sample_ms": sample}


def pair(mode: str, follower: psutil.Process | None, first: bool) -> dict[str, Any]:
    """A second with the follower and one without; when each was, and the processor seconds of the follower."""
    turn: dict[str, Any] = {"mode": mode, "busy": 0.0}
    for runs in (first, not first):
        before = sum(follower.cpu_times()[:2]) if follower else 0.0
        if follower and runs:
            follower.send_signal(signal.SIGCONT)
        begun = time.time()
        time.sleep(TURN)
        turn["with" if runs else "without"] = (begun, time.time())
        if follower and runs:
            follower.send_signal(signal.SIGSTOP)
            turn["busy"] += sum(follower.cpu_times()[:2]) - before
    return turn


def steps_of(turn: dict[str, Any], times: list[float]) -> dict[str, Any]:
    """Of both seconds of a pair, the milliseconds of the steps that lay within it."""
    found: dict[str, Any] = {"mode": turn["mode"], "busy": turn["busy"]}
    for side in ("with", "without"):
        begun, ended = turn[side]
        inside = [moment for moment in times if begun <= moment <= ended]
        found[side] = [round(1000 * (after - before), 3) for before, after in itertools.pairwise(inside)]
    return found


def sampled(folder: Path, pid: int) -> float:
    """Processor milliseconds of one sample of the machine, as a job takes one every 5 s in its first ten minutes, then
    every 30 s."""
    sampler = Sampler(folder / "system.jsonl", "system/", root=pid)
    begun = time.thread_time()
    for step in range(20):
        sampler.write(step, 1.0)
    return 1000 * (time.thread_time() - begun) / 20


def summary(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per mode and one of the bad ones together: the median of the pairs' median steps, and the ratio with its
    95% interval."""
    rows = []
    for mode, modes in [*((mode, (mode,)) for mode in MODES), ("the last three together", BAD)]:
        mine = [pair for pair in pairs if pair["mode"] in modes]
        middles = {side: [statistics.median(pair[side]) for pair in mine] for side in ("with", "without")}
        means = {side: [statistics.fmean(pair[side]) for pair in mine] for side in ("with", "without")}
        row = {side: statistics.median(values) for side, values in middles.items()}
        row |= {
            "steps": sum(len(pair["with"]) for pair in mine),
            "share": sum(pair["busy"] for pair in mine) / (2 * TURN * len(mine)),
        }
        rows.append({"mode": mode, "median": ratio(**middles), "mean": ratio(**means), **row})
    return rows


def brief(pair: dict[str, Any]) -> dict[str, Any]:
    """A pair without its single steps: of each second the median step, the mean, and how many there were."""
    sides = {
        side: (statistics.median(pair[side]), round(statistics.fmean(pair[side]), 3), len(pair[side]))
        for side in ("with", "without")
    }
    return pair | sides


def ratio(**sides: list[float]) -> tuple[float, float, float]:
    """The geometric mean of the pairs' ratios with to without, and its 95% interval by bootstrap over pairs."""
    chance = random.Random(2)
    logs = [math.log(one / other) for one, other in zip(sides["with"], sides["without"], strict=True)]
    drawn = sorted(statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(4000))
    return math.exp(statistics.fmean(logs)), math.exp(drawn[100]), math.exp(drawn[-101])


def told(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    heading = f"{record['date']}, {record['cores']} CPU cores ({record['machine']}), MLflow {record['mlflow']}"
    lines = [
        "# MLflow beside a job",
        "",
        f"{heading}, load at the start {record['load']:.1f}. `python -m tests.bench.tracking {record['count']}`.",
        "",
        (
            f"One job trains on one thread; for each way that MLflow's server may be, {record['count']} pairs of a"
            " second in which a flow"
        ),
        (
            "follows the job and a second in which it does not. A second's median step, and its mean; the ratio over"
            " pairs (95%)."
        ),
        "",
        (
            "| MLflow's server | median step, ms, followed | not | ratio of medians | ratio of means | steps | the"
            " flow, of a core |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        cells = [
            ": ".join(filter(None, (row["mode"], MODES.get(row["mode"])))),
            f"{row['with']:.2f}",
            f"{row['without']:.2f}",
        ]
        cells += ["{:.3f} ({:.3f} to {:.3f})".format(*row[kind]) for kind in ("median", "mean")]
        cells += [f"{row['steps']:,}", f"{row['share']:.2%}"]
        lines.append(f"| {' | '.join(cells)} |")
    early, late = record["sample_ms"] / 50, record["sample_ms"] / 300
    lines += [
        "",
        (
            f"Inside the job, a sample of its machine takes {record['sample_ms']:.1f} ms of processor every 5 s, after"
            f" ten minutes every 30 s: {early:.3f}% of one core, then {late:.3f}%."
        ),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, write the results, show them."""
    count, load_before = int(sys.argv[1]) if len(sys.argv) > 1 else 100, os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="imbik-tracking-") as folder:
        for mode in MODES:
            (Path(folder) / f"store-{mode}" / ".work").mkdir(parents=True)
        found = measure(count, Path(folder))
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": processor.kind(),
        "cores": os.cpu_count(),
        "mlflow": version("mlflow"),
        "load": load_before,
        "count": count,
        "rows": summary(found["pairs"]),
        "pairs": [brief(pair) for pair in found["pairs"]],
        "sample_ms": found["sample_ms"],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "tracking.md").write_text(told(record))
    print(told(record))


if __name__ == "__main__":
    main()
