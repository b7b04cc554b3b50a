"""What MLflow costs a job: its steps while a flow tells MLflow of it, by how the server behaves.

`python -m tests.bench.tracking [ROUNDS]` writes tests/bench/results/tracking.{json,md}; a minute a round, six unless told. One
real job trains on one thread; the following of its metrics takes turns of ten seconds, shuffled within a round: nobody is told (twice, so
that the noise of the machine is seen), a healthy server on this machine, one that answers after 5 s, one that is not there, one that
answers 500. A turn's figures are its median step and the job's processor time a step, which other work on the machine does not
stretch; a mode's are the medians over rounds of the ratios to the turn `none` of the same round.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from conf.load import load
from jobs.system import Sampler
from tasks.tracking import Tracker
from tests.mlflow_fixtures import Proxy, free_port, served

RESULTS = Path(__file__).parent / "results"
RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
MODES = ("none", "none again", "healthy", "slow", "away", "failing")
SETTLE, MEASURE, SLOW = 2.0, 8.0, 5.0
LAYERS, HIDDEN = 4, 64
"""Small on purpose: steps of some 30 ms are far faster than a real job's, so that telling them costs more, not less."""


def job(folder: Path) -> subprocess.Popen[bytes]:
    """A training job that does not end by itself; its metrics are in `folder`/job."""
    recipe = load(str(RECIPE), [])
    assert recipe.teacher.shape
    shape = recipe.teacher.shape.model_copy(update={"num_layers": LAYERS, "hidden_size": HIDDEN, "ffn_hidden_size": 3 * HIDDEN})
    endless = {"shape": shape, "steps": 10_000_000, "validate_every": 10_000_000, "checkpoint_every": 10_000_000}
    data, teacher = folder / "data", folder / "job"
    specs = {
        "data": {"stage": "data", "config": recipe.data.model_dump(mode="json"), "inputs": {"source": recipe.data.source}},
        "teacher": {"stage": "teacher", "config": recipe.teacher.model_copy(update=endless).model_dump(mode="json")},
    }
    specs["teacher"]["inputs"] = {"data": str(data)}
    running = None
    for stage, output in (("data", data), ("teacher", teacher)):
        output.mkdir()
        (output / "spec.json").write_text(json.dumps(specs[stage] | {"key": stage, "output": str(output)}))
        command = [sys.executable, "-m", f"jobs.{stage}", "--spec", str(output / "spec.json")]
        running = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=(folder / f"{stage}.log").open("w"))
        if stage == "data":
            assert running.wait() == 0, (folder / "data.log").read_text()
    assert running
    return running


class Follower:
    """Reads a job's new lines as the launcher does."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """What was written since the last call, whole lines only."""
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self.place)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self.place += len(line)
                yield json.loads(line)


def turn(
    mode: str, follower: Follower, store: Path, uri: str | None, busy: psutil.Process, left: list[threading.Thread]
) -> dict[str, float]:
    """One turn: milliseconds of a step by the clock and by the processor, the steps, and the share of a core that this process used."""
    tracker = Tracker(store, mode, {"project": "bench"}, uri=uri) if uri else None
    if tracker:
        tracker.begin("teacher", "teacher", "key", store)
    begun, times, used, worked = time.monotonic(), [], 0.0, 0.0
    while (now := time.monotonic() - begun) < SETTLE + MEASURE:
        for line in follower.lines():
            if tracker:
                tracker.step("teacher", line)
            if now > SETTLE:
                times.append(line["time"])
        if now < SETTLE:
            used, worked = time.process_time(), sum(busy.cpu_times()[:2])
        time.sleep(0.1)  # as the launcher looks
    share, worked = (time.process_time() - used) / MEASURE, sum(busy.cpu_times()[:2]) - worked
    if tracker:  # its end is another turn's beginning: it waits for nobody but its server
        left.append(threading.Thread(target=tracker.close, kwargs={"failed": False}))
        left[-1].start()
    steps = [1000 * (after - before) for before, after in itertools.pairwise(times)]
    return {"step_ms": statistics.median(steps), "processor_ms": 1000 * worked / len(steps), "steps": len(steps), "share": share}


def measure(rounds: int, folder: Path) -> dict[str, Any]:
    """Every mode's turns, and what a sample of the machine costs the job."""
    chance, found = random.Random(1), dict[str, list[dict[str, float]]]((mode, []) for mode in MODES)
    left: list[threading.Thread] = []
    with ExitStack() as stack:
        _, healthy = stack.enter_context(served(folder / "server"))
        slow, failing = (Proxy(healthy.target, free_port()) for _ in range(2))
        slow.seconds = SLOW
        for proxy, behaves in ((healthy, "ok"), (slow, "slow"), (failing, "error")):
            stack.callback(proxy.turn, "dead")
            proxy.turn(behaves)
        ports = {"healthy": healthy.port, "slow": slow.port, "failing": failing.port, "away": 9}
        uris = {mode: f"http://127.0.0.1:{port}" for mode, port in ports.items()}
        running = job(folder)
        try:
            follower = Follower(folder / "job" / "metrics.jsonl")
            while not follower.path.exists():
                assert running.poll() is None, (folder / "teacher.log").read_text()
                time.sleep(0.5)
            busy = psutil.Process(running.pid)
            for mode in MODES[2:]:  # MLflow's import and the first tables are the flow's start, not a step's
                turn(mode, follower, folder / "store", uris.get(mode), busy, left)
            for number in range(rounds):
                order = chance.sample(MODES, len(MODES))
                for mode in order:
                    found[mode].append(turn(mode, follower, folder / "store", uris.get(mode), busy, left))
                print(number, {mode: round(told[-1]["step_ms"], 2) for mode, told in found.items()}, flush=True)
            sample = sampled(folder, running.pid)
        finally:
            running.kill()
            running.wait()
        for thread in left:
            thread.join()
    return {"turns": found, "sample_ms": sample}


def sampled(folder: Path, pid: int) -> float:
    """Processor milliseconds of one sample of the machine, as a job takes one every 5 s in its first ten minutes, then every 30 s."""
    sampler = Sampler(folder / "system.jsonl", "system/", root=pid)
    begun = time.thread_time()
    for step in range(20):
        sampler.write(step, 1.0)
    return 1000 * (time.thread_time() - begun) / 20


def summary(turns: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """A row per mode: medians, and ratios to `none` with the 95% interval of their median by bootstrap over rounds."""
    rows = []
    for mode, told in turns.items():
        row: dict[str, Any] = {"mode": mode, "steps": sum(int(each["steps"]) for each in told)}
        for figure in ("step_ms", "processor_ms", "share"):
            row[figure] = statistics.median(each[figure] for each in told)
        for figure in ("step_ms", "processor_ms"):
            row[f"{figure}_ratio"] = ratio([mine[figure] / none[figure] for mine, none in zip(told, turns["none"], strict=True)])
        rows.append(row)
    return rows


def ratio(ratios: list[float]) -> tuple[float, float, float]:
    """The median with its 95% interval."""
    chance = random.Random(2)
    drawn = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(4000))
    return statistics.median(ratios), drawn[100], drawn[-101]


def told(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    heading = f"{record['date']}, {record['cores']} CPU cores ({record['machine']}), MLflow {record['mlflow']}"
    lines = [
        "# MLflow beside a job",
        "",
        f"{heading}, load at the start {record['load']:.1f}. `python -m tests.bench.tracking {record['rounds']}`.",
        "",
        f"One job trains on one thread; {record['rounds']} rounds of turns of {MEASURE:.0f} s, shuffled. `none again` is the noise.",
        "",
        "| MLflow | step, ms | ratio to none (95%) | processor a step, ms | ratio to none (95%) | steps | the flow's share of a core |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        cells = [row["mode"]]
        for figure in ("step_ms", "processor_ms"):
            middle, low, high = row[f"{figure}_ratio"]
            cells += [f"{row[figure]:.2f}", "1" if row["mode"] == "none" else f"{middle:.3f} ({low:.3f} to {high:.3f})"]
        cells += [f"{row['steps']:,}", f"{row['share']:.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    early, late = record["sample_ms"] / 50, record["sample_ms"] / 300
    lines += [
        "",
        "healthy: the server runs on this machine too, so its work is in the ratio by the clock. slow: answers after 5 s. away: nobody",
        "listens. failing: 500. The flow's share of a core is the following itself and the sending thread.",
        "",
        f"Inside the job, a sample of its machine takes {record['sample_ms']:.1f} ms of processor every 5 s, after ten minutes every 30 s: "
        f"{early:.2f}% of one core, then {late:.2f}%.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    from importlib.metadata import version

    rounds, load_before = int(sys.argv[1]) if len(sys.argv) > 1 else 6, os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="j-bench-") as folder:
        (Path(folder) / "store" / ".work").mkdir(parents=True)
        found = measure(rounds, Path(folder))
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "mlflow": version("mlflow"),
        "load": load_before,
        "rounds": rounds,
        "rows": summary(found["turns"]),
    } | found
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "tracking.md").write_text(told(record))
    print(told(record))


if __name__ == "__main__":
    main()
