"""The refit of Hoffmann et al.'s points: `python -m tests.bench.scaling POINTS` (half a minute).

POINTS is data/svg_extracted_data.csv of github.com/epoch-research/analyzing-chinchilla, which is not kept here: 245
points read off a figure. As in Besiroglu et al. (2024), the five with the fewest tokens per parameter are left out, and
the law is set against the one published there."""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from flows.doctor import processor
from tasks.analysis.scaling.answers import oracle
from tasks.analysis.scaling.backtest import TOLERANCE, choose, trials
from tasks.analysis.scaling.forms import forms
from tasks.analysis.scaling.ladder import FLOPS, Ladder, ladder

RESULTS = Path(__file__).parent / "results"
PUBLISHED = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
LEFT_OUT = 5


def points(path: Path) -> Ladder:
    """The digitized points; tokens are FLOPs / 6 N."""
    rows = []
    with path.open() as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            params = float(row["Model Size"])
            rows.append((f"line {line}", params, float(row["Training FLOP"]) / FLOPS / params, float(row["loss"])))
    return ladder(sorted(rows, key=lambda row: row[2] / row[1])[LEFT_OUT:])


def measure(found: Ladder) -> dict[str, Any]:
    """The law with its intervals, the back-test and the seconds that both took."""
    started, competing = time.perf_counter(), forms(0.0)
    tried = trials(found, competing)
    choice = choose(found, competing, tried, TOLERANCE)
    assert choice, "the back-test refuses the points"
    law = oracle(found, choice)
    drawn = [fit.parameters for fit in law.resampled]
    intervals = {name: np.quantile([one[name] for one in drawn], (0.025, 0.975)).tolist() for name in PUBLISHED}
    tests = [
        {"axis": trial.axis, "fitted": trial.fitted, "predicted": trial.predicted, "reach": trial.reach}
        | {form.name: trial.error(form.name) for form in competing}
        for trial in tried
    ]
    return {
        "points": len(found),
        "chosen": choice.form.name,
        "law": law.fit.parameters,
        "intervals": intervals,
        "supported": law.range(),
        "backtest": tests,
        "seconds": time.perf_counter() - started,
    }


def table(result: dict[str, Any]) -> str:
    """As Markdown."""
    lines = [f"{result['points']} points; chosen: {result['chosen']}; supported: {result['supported']}.", ""]
    lines += ["| parameter | fitted here | 95% (bootstrap) | published |", "|---|---:|---:|---:|"]
    for name, value in PUBLISHED.items():
        low, high = result["intervals"][name]
        lines.append(f"| {name} | {result['law'][name]:.4g} | {low:.4g} to {high:.4g} | {value:.4g} |")
    lines += ["", "| along | fitted | predicted | reach | law | power law |", "|---|---:|---:|---:|---:|---:|"]
    for row in result["backtest"]:
        errors = " | ".join("-" if row[name] is None else f"{row[name]:.1%}" for name in ("law", "power law"))
        lines.append(f"| {row['axis']} | {row['fitted']} | {row['predicted']} | {row['reach']:.1f}x | {errors} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write results/scaling.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", type=Path, help="data/svg_extracted_data.csv of the repository.")
    result = measure(points(parser.parse_args().points))
    (RESULTS / "scaling.json").write_text(json.dumps({"machine": processor.kind()} | result, indent=2) + "\n")
    (RESULTS / "scaling.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
