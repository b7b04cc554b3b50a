"""How well a learning curve foretells more tokens: `python -m tests.bench.extrapolation [--store DIR]` (about ten
minutes).

The demo's students are distilled for 120 and for 240 steps, each schedule made for its length. What the report's fit to
the shorter run expects of twice the tokens is set against the longer run, and so is what the fit to the longer run's
first half expects of its end."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flows.doctor import processor

RESULTS = Path(__file__).parent / "results"
PLAIN = ["quantize=[]"]
STEPS = {
    "short": ["distill.steps=120", "distill.validate_every=15"],
    "long": ["distill.steps=240", "distill.validate_every=8"],
}


def learning(store: Path, name: str) -> dict[str, Any]:
    """What the report of a run, made now where it is not there, tells of its distillations."""
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "run",
        "demo",
        *PLAIN,
        *STEPS[name],
        "--store",
        str(store),
        "--name",
        f"extrapolation-{name}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report = json.loads((store / "runs" / f"extrapolation-{name}" / "report.json").read_text())
    found: dict[str, Any] = report["learning"]
    return found


def measure(store: Path) -> list[dict[str, Any]]:
    """A row per student and question: what was foretold, its 95% interval, and what was measured (KL, nats per
    token)."""
    short, long = learning(store, "short"), learning(store, "long")
    rows = []
    for student, about in long.items():
        cases = {"120 steps of 240": (short[student]["law"].get("doubled"), about["val_kl"][-1])}
        if about["backtest"]:
            cases["first half of 240 steps"] = (about["backtest"]["predicted"], about["backtest"]["measured"])
        for case, (foretold, measured) in cases.items():
            inside = foretold and foretold[1] <= measured <= foretold[2]
            rows.append(
                {"student": student, "from": case, "foretold": foretold, "measured": measured, "inside": inside}
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| student | from | foretold KL (95%) | measured |", "|---|---|---:|---:|"]
    for row in rows:
        told = "not determined" if row["foretold"] is None else "{:.4f} ({:.4f} to {:.4f})".format(*row["foretold"])
        lines.append(f"| {row['student']} | {row['from']} | {told} | {row['measured']:.4f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write results/extrapolation.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--store", type=Path, help="A store whose artifacts may be used; default: a new one, removed afterwards."
    )
    store = parser.parse_args().store
    with tempfile.TemporaryDirectory() as folder:
        rows = measure((store or Path(folder) / "store").absolute())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "extrapolation.json").write_text(
        json.dumps({"machine": processor.kind(), "rows": rows}, indent=2) + "\n"
    )
    (RESULTS / "extrapolation.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
