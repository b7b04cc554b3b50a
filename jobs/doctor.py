"""Inspects the machines a job gets: nodes, GPUs, bandwidth between ranks, free disk, versions, and whether they share
the store."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from conf.engines import vllm
from conf.spec import Spec
from jobs.runtime.entry import main

MEGABYTES = 64
REPEATS = 5


def run(spec: Spec) -> None:
    """Write `doctor.json`: every rank's report, in rank order, and the bandwidth between the ranks."""
    output, ranks = Path(spec.output), int(os.environ.get("WORLD_SIZE", "1"))
    rank_report = _rank_report(output, spec.config["packages"], spec.config["token"])
    if ranks > 1:
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if cuda else "gloo")
        reports: list[dict[str, Any]] = [{} for _ in range(ranks)]
        dist.all_gather_object(reports, rank_report)
        bandwidth = _bandwidth(ranks, torch.device("cuda" if cuda else "cpu"))
        is_first, backend = dist.get_rank() == 0, dist.get_backend()
        dist.barrier()
        dist.destroy_process_group()
    else:
        reports, bandwidth, is_first, backend = [rank_report], None, True, None
    if is_first:
        summary = {"ranks": reports, "bandwidth_gb_s": bandwidth, "backend": backend}
        (output / "doctor.json").write_text(json.dumps(summary, indent=2))


def _rank_report(output: Path, packages: list[str], token: str) -> dict[str, Any]:
    """This rank's machine. The submitter wrote the token: a rank that reads it sees the same store."""
    versions = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    probe = output / "probe"
    gpu = None
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", "0")))
        gpu = {"name": device.name, "memory_gb": round(device.total_memory / 1e9, 1), "seen": torch.cuda.device_count()}
    return {
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "cpus": len(os.sched_getaffinity(0)),
        "free_gb": round(shutil.disk_usage(output).free / 1e9, 1),
        "store": probe.is_file() and probe.read_text() == token,
        "versions": versions,
        "vllm": _vllm(),
    }


def _vllm() -> str | None:
    """Version of the vLLM that jobs here would find, or why they would not; None where no Python is named for it."""
    try:
        python = vllm.interpreter()
        return None if python is None else vllm.version(python)
    except ValueError as error:
        return str(error)


def _bandwidth(ranks: int, device: torch.device) -> float:
    """Bus bandwidth of an all-reduce over all ranks in GB/s, by the formula of nccl-tests: bytes x 2 (n - 1) / n /
    seconds."""
    data = torch.ones(MEGABYTES * 2**20 // 4, dtype=torch.float32, device=device)
    times = []
    for _ in range(REPEATS + 1):  # the first sets up connections
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(data)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    seconds = sorted(times[1:])[REPEATS // 2]
    return round(data.numel() * 4 * 2 * (ranks - 1) / ranks / seconds / 1e9, 3)


if __name__ == "__main__":
    main(run)
