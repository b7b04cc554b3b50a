"""Times attention with capped scores and its memory: in chunks of queries (ours), in the same chunks by autograd's
checkpoints, with whole scores, and PyTorch's fused attention, which leaves the cap out.

`python -m tests.bench.capped` writes tests/bench/results/capped.{json,md}. Every way is a process of its own, for its
peak memory. Not a test: it asserts nothing about time."""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from flows.doctor import processor
from jobs.megatron import capping
from jobs.megatron.capping import Scores
from tests.jobs.megatron.test_capping import plain

RESULTS = Path(__file__).parent / "results"
HEADS, GROUPS, BATCH, ROUNDS = 8, 4, 1, 5
CASES = [(256, 256, None), (256, 1024, None), (256, 2048, None), (64, 2048, None), (256, 2048, 512)]
"""Width of a head (Gemma 2's is 256), length, window."""


def chunked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """Whole scores of a chunk of queries at a time, which autograd computes again."""
    length = len(query)
    rows = max(1, capping.CHUNK_ELEMENTS["cpu"] // (query.shape[1] * query.shape[2] * length))
    parts = []
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        first = 0 if how.window is None else max(0, start - how.window + 1)
        inputs = query[start:stop], key[first:stop], value[first:stop]
        parts.append(checkpoint(functools.partial(plain, how=how), *inputs, use_reentrant=False))
    return torch.cat(parts)


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, how: Scores) -> torch.Tensor:
    """PyTorch's, without the cap."""
    order = [each.permute(1, 2, 0, 3) for each in (query, key, value)]
    distance = torch.arange(len(query))[:, None] - torch.arange(len(key))
    mask = None if how.window is None else (distance >= 0) & (distance < how.window)
    context = torch.nn.functional.scaled_dot_product_attention(
        *order, attn_mask=mask, is_causal=mask is None, scale=how.scale, enable_gqa=True
    )
    return context.permute(2, 0, 1, 3)


WAYS: dict[str, Callable[..., torch.Tensor]] = {
    "fused, not capped": fused,
    "capped, ours": capping.attention,
    "capped, checkpoints": chunked,
    "capped, whole scores": plain,
}


def measure(way: str, width: int, length: int, window: int | None) -> dict[str, float]:
    """Least processor seconds of a forward and a backward pass in fp32, and the bytes they added at their peak."""
    torch.set_num_threads(1)
    how = Scores(scale=width**-0.5, cap=50.0, window=window)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(length, BATCH, heads, width, generator=generator) for heads in (HEADS, GROUPS, GROUPS)]
    for each in inputs:
        each.requires_grad_()
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(ROUNDS):
        begun = time.process_time()
        output = WAYS[way](*inputs, how)
        middle = time.process_time()
        output.sum().backward()
        times.append((middle - begun, time.process_time() - middle))
    forward, backward = (min(column) for column in zip(*times, strict=True))
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {"forward": forward, "backward": backward, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(*json.loads(arguments.case))))
        return
    rows: list[dict[str, Any]] = []
    for width, length, window in CASES:
        for way in WAYS:
            case = json.dumps([way, width, length, window])
            command = [sys.executable, "-W", "ignore", "-m", "tests.bench.capped", "--case", case]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"width": width, "length": length, "window": window, "way": way} | found)
            print(rows[-1], flush=True)
    device = {"processor": processor.kind(), "torch": torch.__version__}
    record = {"date": time.strftime("%Y-%m-%d"), "device": device, "rows": rows}
    (RESULTS / "capped.json").write_text(json.dumps(record, indent=2) + "\n")
    (RESULTS / "capped.md").write_text(table(record))


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    device = record["device"]
    lines = [
        "# Attention with capped scores",
        "",
        (
            f"{record['date']}, {device['processor']}, 1 thread, torch {device['torch']}, fp32. {HEADS} heads in"
            f" {GROUPS} groups, {BATCH} sequence. Processor seconds, the least of {ROUNDS}; memory: peak resident bytes"
            " that both passes added, each way in a process of its own. `python -m tests.bench.capped`."
        ),
        "",
        (
            "PyTorch's fused attention leaves the cap out and is here for comparison; its flex_attention, which could"
            " cap, has no backward pass on a CPU (torch 2.13)."
        ),
        "",
        "| width of a head | length | window | attention | forward | backward | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['width']} | {row['length']:,} | {row['window'] or 'none'} | {row['way']} | {row['forward']:.3f} |"
        f" {row['backward']:.3f} | {row['peak'] / 1e6:,.0f} MB |"
        for row in record["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
