"""Times a training step in fp32 and in bf16 on this kind of CPU: bf16 as imbik computes it here, and as torch alone
would.

`python -m tests.bench.processors` writes tests/bench/results/processors-KIND.{json,md}. Each way is a process of its
own with one thread, a round after another; the demo's teacher and a wider one. Not a test: it asserts nothing about
time."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conf.shape import Shape
from conf.spec import BF16_KERNELS
from flows.doctor import processor

RESULTS = Path(__file__).parent / "results"
DEMO = Shape(
    num_layers=6, hidden_size=192, ffn_hidden_size=512, num_attention_heads=4, num_query_groups=2, vocab_size=1024
)
WIDE = Shape(
    num_layers=2, hidden_size=1024, ffn_hidden_size=2816, num_attention_heads=16, num_query_groups=4, vocab_size=8192
)
SHAPES = {"demo": (DEMO, 8, 128), "wide": (WIDE, 2, 256)}
WAYS = {"fp32": ("fp32", ""), "bf16": ("bf16", ""), "bf16, torch alone": ("bf16", "native")}
ROUNDS, STEPS = 3, 5


def main() -> None:
    if len(sys.argv) > 1:
        return print(json.dumps(step(*sys.argv[1:])))
    rows = []
    for shape in SHAPES:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, (precision, kernels) in WAYS.items():
                if kernels == "native" and (processor.has_bf16() or found[way]):
                    continue  # the same as bf16, or slow enough to be clear after one round
                environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({BF16_KERNELS: kernels} if kernels else {})
                command = [sys.executable, "-W", "ignore", "-m", "tests.bench.processors", shape, precision]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
        medians = {
            way: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
            for way, runs in found.items()
            if runs
        }
        base = medians["fp32"]
        rows += [
            {"model": shape, "way": way, "ratio": told["seconds"] / base["seconds"], **told}
            for way, told in medians.items()
        ]
        print(rows[-len(medians) :], flush=True)
    import torch

    kind = "native" if processor.has_bf16() else "through-fp32"
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor.kind(),
        "torch": torch.__version__,
        "rows": rows,
    }
    (RESULTS / f"processors-{kind}.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / f"processors-{kind}.md").write_text(table(record))


def step(shape: str, precision: str) -> dict[str, float]:
    """Median seconds of a step after a first one, and the peak memory of this process in bytes."""
    import torch

    from conf.parallel import Parallel
    from jobs.megatron.device import machine
    from tests.bench import training

    torch.set_num_threads(1)
    training.TEACHER, training.BATCH, training.LENGTH = SHAPES[shape]
    times = []
    with machine(Parallel(), 1), tempfile.TemporaryDirectory() as folder:
        run = training._ours("train", precision, Path(folder))
        run()
        for _ in range(STEPS if precision == "fp32" or os.environ.get(BF16_KERNELS) != "native" else 1):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(times), "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def table(record: dict[str, Any]) -> str:
    lines = [
        "# A training step in bf16 and in fp32 on one core",
        "",
        (
            f"{record['date']}, {record['processor']}, torch {record['torch']}. `python -m tests.bench.processors`:"
            " Megatron's step of the demo's teacher (8 x 128 tokens) and of two layers of hidden size 1,024 (2 x 256"
            f" tokens), one thread, medians of {ROUNDS} processes."
        ),
        "",
        "| model | way | seconds a step | of fp32's | peak memory |",
        "|---|---|---:|---:|---:|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['model']} | {row['way']} | {row['seconds']:.3f} | {row['ratio']:.2f} | {row['bytes'] / 1e6:,.0f}"
            " MB |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
