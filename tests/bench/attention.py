"""Times a training step and its memory: PyTorch's fused attention in Megatron's local layers, Megatron's own, and
recomputation.

`python -m tests.bench.attention` writes tests/bench/results/attention.{json,md}. Every way is a process of its own (for
its peak memory), on the same Megatron-Core model, optimizer and random tokens; rounds are interleaved. Not a test: it
asserts nothing about time."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conf.parallel import Parallel
from conf.shape import Shape
from conf.stages.training import Training
from flows.doctor import processor
from jobs.megatron.device import machine
from jobs.tokens.windows import Samples

RESULTS = Path(__file__).parent / "results"
SHAPES = {
    "wide": Shape(
        num_layers=6, hidden_size=256, ffn_hidden_size=768, num_attention_heads=4, num_query_groups=2, vocab_size=1000
    ),
    "narrow": Shape(
        num_layers=5, hidden_size=64, ffn_hidden_size=172, num_attention_heads=8, num_query_groups=4, vocab_size=512
    ),
}
"""Heads of width 64, as Llama 3.2 1B's, and stories260K with its heads of width 8."""
TOKENS, STEPS = 4096, 3
WAYS = ("unfused", "fused", "fused, recomputed")
CASES = [("wide", precision, length) for precision in ("fp32", "bf16") for length in (256, 1024, 2048)] + [
    ("narrow", "fp32", 256)
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        way, shape, precision, length = arguments.case
        print(json.dumps(measure(way, shape, precision, int(length))))
        return
    rows = []
    for case in CASES:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "tests.bench.attention",
                    "--case",
                    way,
                    *map(str, case),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(*case, way, found[way][-1], flush=True)
        rows += [_row(case, way, runs, found["unfused"]) for way, runs in found.items()]
    device = {"processor": processor.kind(), "threads": os.cpu_count(), "torch": torch.__version__}
    record = {"date": time.strftime("%Y-%m-%d"), "device": device, "rounds": arguments.rounds, "rows": rows}
    (RESULTS / "attention.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "attention.md").write_text(table(record))


def _row(
    case: tuple[str, str, int], way: str, runs: list[dict[str, Any]], base: list[dict[str, Any]]
) -> dict[str, Any]:
    # The least of the rounds: what else ran on the machine only ever adds.
    (seconds, whole), (peak, most) = (
        [min(run[key] for run in which) for which in (runs, base)] for key in ("seconds", "peak")
    )
    shape, precision, length = case
    return {
        "shape": shape,
        "precision": precision,
        "length": length,
        "way": way,
        "seconds": seconds,
        "speed": round(whole / seconds, 2),
        "peak": peak,
        "memory": round(peak / most, 2),
        "loss": runs[0]["loss"],
    }


def measure(way: str, shape: str, precision: str, length: int) -> dict[str, Any]:
    """Least processor seconds of a step after a first one, peak resident bytes that steps added, and the loss after
    them."""
    from megatron.core.transformer.dot_product_attention import DotProductAttention

    from jobs.megatron import attention, training, weights
    from jobs.megatron import fused_loss as head
    from jobs.megatron.model import build, config_of_shape

    parallel = Parallel(recompute=way.endswith("recomputed"))
    if way == "unfused":
        attention.FusedAttention = DotProductAttention  # type: ignore[assignment,misc]
    batches = {
        "seq_length": length,
        "global_batch": TOKENS // length,
        "micro_batch": TOKENS // length,
        "precision": precision,
    }
    config = Training.model_validate(
        batches | {"steps": 1000, "lr": 1e-3, "min_lr": 1e-5, "warmup_steps": 0, "parallel": parallel}
    )
    with machine(parallel, 1):
        torch.set_num_threads(os.cpu_count() or 1)
        hf_config = config_of_shape(SHAPES[shape], vocab_size=SHAPES[shape].vocab_size or 0, eos_token_id=0)
        model = build(hf_config, parallel, config.precision, torch.device("cpu"))
        weights.initialize(model, hf_config, 1)
        head.defer(model)
        split = _Random(config, SHAPES[shape].vocab_size or 0)
        run = training._Run(model, config, training.language_model(), split, split)  # type: ignore[arg-type]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        values, times = run.step(0), []
        for step in range(STEPS):
            begun = time.process_time()
            values = run.step(step + 1)
            times.append(time.process_time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"seconds": min(times), "peak": peak, "loss": round(values["train_loss"], 4)}


class _Random:
    """One batch of random tokens in place of a corpus."""

    def __init__(self, config: Training, vocabulary: int) -> None:
        self.tokens = np.random.default_rng(1).integers(0, vocabulary, (config.global_batch, config.seq_length + 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def samples(self, indices: Any) -> Samples:
        return Samples(
            addresses=np.arange(self.tokens[:, 1:].size).reshape(self.tokens[:, 1:].shape), tokens=self.tokens
        )

    def shuffled(self, position: int, count: int, seed: int) -> Any:
        return np.arange(count)


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    device = record["device"]
    lines = [
        "# A training step: fused attention, Megatron's own local attention, and activation recomputation",
        "",
        (
            f"{record['date']}, {device['processor']}, {device['threads']} threads, torch {device['torch']}. {TOKENS:,}"
            " tokens a step; wide: 6 layers of hidden 256 in 4 heads of 64 and 2 groups; narrow: stories260K's shape,"
            f" 5 layers of hidden 64 in 8 heads of 8 and 4 groups. Least of {record['rounds']} processes each and of"
            f" {STEPS} steps after a first. `python -m tests.bench.attention`."
        ),
        "",
        (
            "Seconds are of the processors, all threads together, which other work on the machine disturbs least."
            " speed: seconds of Megatron's DotProductAttention / these; memory: peak resident bytes that the steps"
            " added to the model's, / those of Megatron's. The loss after four steps shows that all ways compute the"
            " same."
        ),
        "",
        (
            "| shape | precision | length | attention | processor seconds a step | speed | memory of a step | memory |"
            " loss |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['shape']} | {row['precision']} | {row['length']:,} | {row['way']} | {row['seconds']:.3f} |"
        f" {row['speed']:.2f} | {row['peak'] / 1e6:,.0f} MB | {row['memory']:.2f} | {row['loss']:.4f} |"
        for row in record["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
