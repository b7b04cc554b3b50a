"""What a job uses of its machine while it runs: processor, memory and GPUs, sampled into `system.jsonl`.

One process per node samples all ranks on the node and every GPU they see. Kept apart from the job's own steps."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SECONDS = 5.0
"""Between samples; SLOW from the tenth minute on."""
SLOW = 30.0
AFTER = 600.0
LIST_SECONDS = 30.0
"""Between searches for processes that the job started or ended."""


@contextlib.contextmanager
def sampling(output: str | Path) -> Iterator[None]:
    """Sample until the end of the block. The names are MLflow's (`system/...`); steps are seconds of the job's run."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    node = int(os.environ.get("GROUP_RANK", "0"))
    sampler = Sampler(
        Path(output) / f"system{f'-{node}' if node else ''}.jsonl", f"system/{f'node_{node}/' if node else ''}"
    )
    stop = threading.Event()
    thread = threading.Thread(target=sampler.run, args=(stop,), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(1.0)


class Sampler:
    """Samples a job: `root` and all its descendants. `root` None: the job's own process, or torchrun's agent where
    there are several ranks."""

    def __init__(self, path: Path, prefix: str, root: int | None = None) -> None:
        self.path, self.prefix = path, prefix
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
        self.root = psutil.Process(root or (os.getppid() if ranks else os.getpid()))
        self.processes, self.listed_at = [self.root], -math.inf
        self.seconds_before = 0
        self.cpu_seconds: dict[int, float] = {}
        self.gpus = _gpus()

    def run(self, stop: threading.Event) -> None:
        """Sample until `stop` is set; an error here is no reason to end a job."""
        with contextlib.suppress(OSError, psutil.Error):
            self.seconds_before = self._read_seconds_before()
            begun = last = time.monotonic()
            self._measure(1.0)
            stopped = False
            while not stopped:
                ran = time.monotonic() - begun
                stopped = stop.wait(SECONDS if ran < AFTER else SLOW)
                now = time.monotonic()
                self.write(self.seconds_before + max(round(now - begun), 1), now - last)
                last = now

    def write(self, step: int, seconds: float) -> None:
        """Append a sample that covers the last `seconds`."""
        values = self._measure(seconds)
        for number, gpu in enumerate(self.gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu(gpu).items()}
        metrics = {f"{self.prefix}{name}": round(value, 2) for name, value in values.items()}
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, "total": None, "time": time.time(), "values": metrics}) + "\n")

    def _read_seconds_before(self) -> int:
        """Seconds that earlier attempts ran."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        complete = [line for line in lines if line.endswith(b"\n")]
        if len(complete) != len(lines):
            self.path.write_bytes(b"".join(complete))  # torn when the job was killed
        return int(json.loads(complete[-1])["step"]) if complete else 0

    def _measure(self, seconds: float) -> dict[str, float]:
        """Percent of one core since the last call, and resident megabytes; pages that processes share count for each of
        them."""
        if time.monotonic() - self.listed_at > LIST_SECONDS:  # reads every process of the machine
            self.processes, self.listed_at = [self.root, *self.root.children(recursive=True)], time.monotonic()
        now, memory = dict[int, float](), 0
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                now[process.pid] = times.user + times.system
                memory += process.memory_info().rss
        spent = sum(max(cpu_time - self.cpu_seconds.get(pid, 0.0), 0.0) for pid, cpu_time in now.items())
        self.cpu_seconds = now
        return {
            "cpu_utilization_percentage": 100 * spent / max(seconds, 1e-3),
            "system_memory_usage_megabytes": memory / 1e6,
        }


def _gpus() -> list[object]:
    """NVML handles of the GPUs visible to this job; none where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        available = range(pynvml.nvmlDeviceGetCount())
        numbers = [int(part) for part in visible.split(",") if part.strip().isdecimal()] if visible else list(available)
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers if number in available]
    except Exception:  # noqa: BLE001 - pynvml raises a different class for every missing driver, library and permission
        return []


def _gpu(handle: object) -> dict[str, float]:
    try:
        import pynvml

        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "utilization_percentage": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            "memory_usage_megabytes": memory.used / 1e6,
            "power_usage_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        }
    except Exception:  # noqa: BLE001 - as above; a GPU that lacks one value reports none
        return {}
