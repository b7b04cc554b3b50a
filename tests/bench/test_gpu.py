"""The program that measures the jobs on a GPU, whole, with a model of a few layers on the CPU: what the first GPU
session will run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.gpu import TINY, stages

ROOT = Path(__file__).parents[2]


@pytest.mark.drill
def test_the_gpu_bench_runs_every_stage_and_measures_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.bench.gpu",
        "--tiny",
        "--work",
        str(tmp_path / "work"),
        "--results",
        str(tmp_path),
    ]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    (results,) = tmp_path.glob("gpu-*.json")
    record = json.loads(results.read_text())
    rows = {row["stage"]: row for row in record["rows"]}
    assert list(rows) == [stage.name for stage in stages(TINY)]
    for name in ("training", "distillation online", "distillation offline"):
        row = rows[name]
        assert 0 < row["step_seconds"] < row["seconds"]
        assert row["tokens_per_second"] == pytest.approx(TINY.batch * TINY.length / row["step_seconds"], rel=0.01)
    assert all(row["peak_bytes"] > 1e7 and row["seconds"] > 0 for row in rows.values())
    for name in ("fp8", "nvfp4"):
        assert (tmp_path / "work" / f"quantization-{name}" / "model" / "hf_quant_config.json").is_file()
    assert "| distillation offline |" in results.with_suffix(".md").read_text()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(results.read_text())["rows"] == record["rows"], "what is done is not done again"
    assert "..." not in again.stdout
