"""What the orchestration costs beside the jobs: `python -m tests.bench.orchestration` (a quiet machine, about two
minutes).

The tiny recipe of the tests runs with all cores for every job, so that jobs run one after another and their times add
up. Then overhead per stage = (whole run - jobs - a run that builds nothing) / stages; and every job is started again by
itself, from its record, to see what its process start costs without the warm process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from flows.doctor import processor

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
RESULTS = Path(__file__).parent / "results"
COLD = ("data", "teacher", "importance", "prune-width", "distill-depth", "quantize-depth-nvfp4", "evaluate-depth")


def serial(values: Any) -> Any:
    """The recipe without its `parallel` settings: every job takes all cores."""
    if isinstance(values, dict):
        return {key: serial(value) for key, value in values.items() if key != "parallel"}
    return [serial(value) for value in values] if isinstance(values, list) else values


def run(recipe: Path, store: Path) -> float:
    """Seconds of `imbik run` as a user starts it."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", str(recipe), "--store", str(store), "--name", "bench"], check=True
    )
    return time.perf_counter() - start


def jobs(store: Path) -> dict[str, float]:
    """Seconds of every job, by label."""
    links = [path for path in (store / "runs" / "bench").iterdir() if path.is_symlink()]
    return {path.name: json.loads((path / "artifact.json").read_text())["seconds"] for path in links}


def cold(store: Path, label: str) -> float:
    """Seconds of a job started by itself."""
    path = (store / "runs" / "bench" / label).resolve() / "spec.json"
    spec = json.loads(path.read_text())
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", f"jobs.{spec['stage']}", "--spec", str(path)], check=True, capture_output=True
    )
    seconds = time.perf_counter() - start
    shutil.rmtree(spec["output"])
    return seconds


def measure(folder: Path) -> dict[str, Any]:
    """One run that makes everything, one that makes nothing, and jobs by themselves."""
    recipe, store = folder / "serial.yaml", folder / "store"
    recipe.write_text(yaml.safe_dump(serial(yaml.safe_load(RECIPE.read_text()))))
    whole = run(recipe, store)
    cached = run(recipe, store)
    took = jobs(store)
    alone = {label: cold(store, label) for label in COLD}
    versions = {name: version(name) for name in ("prefect", "mlflow", "torch", "megatron-core", "nvidia-modelopt")}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": processor.kind(),
        "versions": versions,
        "stages": len(took),
        "whole": whole,
        "cached": cached,
        "jobs": sum(took.values()),
        "per_stage": (whole - cached - sum(took.values())) / len(took),
        "in_the_flow": {label: took[label] for label in COLD},
        "alone": alone,
    }


def told(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "# Orchestration",
        "",
        (
            f"{result['date']}, 2 CPU cores, Prefect {result['versions']['prefect']}. `python -m"
            " tests.bench.orchestration`."
        ),
        "",
        (
            f"A run of {result['stages']} stages took {result['whole']:.1f} s, its jobs {result['jobs']:.1f} s; a run"
            f" that builds nothing {result['cached']:.1f} s (Python, Prefect's server, MLflow, the report). Left for"
            f" each stage: **{result['per_stage']:.2f} s**."
        ),
        "",
        (
            "The same jobs in the flow (forked from the warm process; the teacher waits for its imports) and started by"
            " themselves:"
        ),
        "",
        "| stage | in the flow, s | by itself, s |",
        "|---|---:|---:|",
    ]
    return "\n".join(
        [
            *lines,
            *(
                f"| {label} | {result['in_the_flow'][label]:.2f} | {alone:.2f} |"
                for label, alone in result["alone"].items()
            ),
        ]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        outcome = measure(Path(temporary))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "orchestration.json").write_text(json.dumps(outcome, indent=2) + "\n")
    (RESULTS / "orchestration.md").write_text(told(outcome) + "\n")
    print(told(outcome))
