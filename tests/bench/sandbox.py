"""What it costs to run a program in the sandbox, beside a plain Python process.

    python -m tests.bench.sandbox [PROGRAMS]

Runs the reference solutions of HumanEval and MBPP in ../shared/data with their tests, one after another, and prints
the processor milliseconds that each program takes, start included."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs.benchmarks.judging import reference
from jobs.benchmarks.programs import program
from jobs.benchmarks.reading import read
from jobs.benchmarks.sandbox import Sandbox
from jobs.benchmarks.table import BENCHMARKS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RESULTS = Path(__file__).with_name("results")


def programs(name: str, number: int) -> list[str]:
    """The reference solutions of a benchmark with their tests."""
    benchmark = BENCHMARKS[name]
    questions = read(benchmark, SHARED / name, 0).test[:number]
    found = [program(question, reference(benchmark, question).text) for question in questions]
    return [text for text in found if text]


def milliseconds(run: Callable[[str], bool], texts: list[str]) -> tuple[list[float], list[float]]:
    """Processor and real milliseconds of each program; all must pass."""
    used, passed = [], []
    for text in texts:
        before, started = os.times(), time.perf_counter()
        assert run(text), text
        after = os.times()
        passed.append(1000 * (time.perf_counter() - started))
        children = after.children_user + after.children_system - before.children_user - before.children_system
        used.append(1000 * (children + after.user + after.system - before.user - before.system))
    return used, passed


def plain(text: str) -> bool:
    """Run a program in a process of its own, which nothing contains."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(text)
        file.flush()
        return subprocess.run([sys.executable, "-I", "-S", file.name], capture_output=True).returncode == 0


def main(number: int = 100) -> None:
    """Print and store the table."""
    table: dict[str, dict[str, float]] = {}
    with Sandbox() as sandbox:
        for name in ("humaneval", "mbpp"):
            texts = programs(name, number)
            for way, run in (("plain", plain), ("sandbox", lambda text: sandbox.run(text, 30).passed)):
                used, passed = milliseconds(run, texts)
                table[f"{name}, {way}"] = {
                    "programs": len(texts),
                    "cpu_ms_mean": round(statistics.mean(used), 1),
                    "cpu_ms_median": round(statistics.median(used), 1),
                    "real_ms_median": round(statistics.median(passed), 1),
                    "load": os.getloadavg()[0],
                }
                print(f"{name}, {way}", table[f"{name}, {way}"], flush=True)
    (RESULTS / "sandbox.json").write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
