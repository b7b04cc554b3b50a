"""What a job uses of its machine while it runs: processor, memory and GPUs, sampled on the machine it runs on, into
`system.jsonl`.

One process a node samples: all ranks it has there, and every GPU they see. Beside the job's own steps, never among
them."""

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
"""Between samples; from the tenth minute on SLOW."""
SLOW = 30.0
AFTER = 600.0
FAMILY_SECONDS = 30.0
"""Between looks for processes that the job started or ended."""


@contextlib.contextmanager
def sampled(output: str | Path) -> Iterator[None]:
    """Sample until the end of the block. The names are MLflow's (`system/...`); steps are seconds of the job's run."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    node = int(os.environ.get("GROUP_RANK", "0"))
    sampler = Sampler(
        Path(output) / f"system{f'-{node}' if node else ''}.jsonl", f"system/{f'node_{node}/' if node else ''}"
    )
    done = threading.Event()
    thread = threading.Thread(target=sampler.run, args=(done,), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(1.0)


class Sampler:
    """Samples a job: `root` and all processes below it. `root` None: this job's own, torchrun's agent where there are
    ranks."""

    def __init__(self, path: Path, prefix: str, root: int | None = None) -> None:
        self.path, self.prefix = path, prefix
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
        self.root = psutil.Process(root or (os.getppid() if ranks else os.getpid()))
        self.family, self.looked = [self.root], -math.inf
        self.before = 0
        self.used: dict[int, float] = {}
        self.gpus = _gpus()

    def run(self, done: threading.Event) -> None:
        """Sample until `done`; whatever goes wrong here is no reason to end a job."""
        with contextlib.suppress(OSError, psutil.Error):
            self.before = self._resumed()
            begun = last = time.monotonic()
            self._look(1.0)
            stopped = False
            while not stopped:
                ran = time.monotonic() - begun
                stopped = done.wait(SECONDS if ran < AFTER else SLOW)
                now = time.monotonic()
                self.write(self.before + max(round(now - begun), 1), now - last)
                last = now

    def write(self, step: int, seconds: float) -> None:
        """Add a sample; the last one was `seconds` ago."""
        values = self._look(seconds)
        for number, gpu in enumerate(self.gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu(gpu).items()}
        named = {f"{self.prefix}{name}": round(value, 2) for name, value in values.items()}
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, "total": None, "time": time.time(), "values": named}) + "\n")

    def _resumed(self) -> int:
        """Seconds that earlier attempts ran."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) != len(lines):
            self.path.write_bytes(b"".join(whole))  # torn when the job was killed
        return int(json.loads(whole[-1])["step"]) if whole else 0

    def _look(self, seconds: float) -> dict[str, float]:
        """Percent of one core since the last look, and resident megabytes; pages that processes share are counted by
        each."""
        if time.monotonic() - self.looked > FAMILY_SECONDS:  # reads what every process of the machine is
            self.family, self.looked = [self.root, *self.root.children(recursive=True)], time.monotonic()
        now, memory = dict[int, float](), 0
        for process in self.family:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                now[process.pid] = times.user + times.system
                memory += process.memory_info().rss
        spent = sum(max(used - self.used.get(pid, 0.0), 0.0) for pid, used in now.items())
        self.used = now
        return {
            "cpu_utilization_percentage": 100 * spent / max(seconds, 1e-3),
            "system_memory_usage_megabytes": memory / 1e6,
        }


def _gpus() -> list[object]:
    """NVML's handles of the GPUs that this job may see; none where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        every = range(pynvml.nvmlDeviceGetCount())
        numbers = [int(part) for part in seen.split(",") if part.strip().isdecimal()] if seen else list(every)
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers if number in every]
    except Exception:  # noqa: BLE001 - pynvml raises a class of its own for every missing driver, library and right
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
    except Exception:  # noqa: BLE001 - as above; a GPU that cannot say one thing says nothing
        return {}
