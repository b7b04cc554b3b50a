"""What a job uses of its machine while it runs: processor, memory and GPUs, sampled on the machine it runs on, into `system.jsonl`.

One process a node samples: all ranks it has there, and every GPU they see. Beside the job's own steps, never among them.
"""

from __future__ import annotations

import contextlib
import json
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


@contextlib.contextmanager
def sampled(output: str | Path) -> Iterator[None]:
    """Sample until the end of the block. The names are MLflow's (`system/...`); steps are seconds of the job's run."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    node = int(os.environ.get("GROUP_RANK", "0"))
    sampler = _Sampler(Path(output) / f"system{f'-{node}' if node else ''}.jsonl", f"system/{f'node_{node}/' if node else ''}")
    done = threading.Event()
    thread = threading.Thread(target=sampler.run, args=(done,), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(1.0)


class _Sampler:
    def __init__(self, path: Path, prefix: str) -> None:
        self.path, self.prefix = path, prefix
        # torchrun's agent is the parent of all ranks of this node; a job by itself has only its own children.
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
        self.root = psutil.Process(os.getppid() if ranks else os.getpid())
        self.before = 0
        self.used: dict[int, float] = {}
        self.gpus = _gpus()

    def run(self, done: threading.Event) -> None:
        """Sample until `done`; whatever goes wrong here is no reason to end a job."""
        with contextlib.suppress(OSError, psutil.Error):
            self.before = self._resumed()
            begun = last = time.monotonic()
            self._processors(1.0)
            stopped = False
            while not stopped:
                ran = time.monotonic() - begun
                stopped = done.wait(SECONDS if ran < AFTER else SLOW)
                now = time.monotonic()
                self._write(self.before + max(round(now - begun), 1), now - last)
                last = now

    def _resumed(self) -> int:
        """Seconds that earlier attempts ran."""
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) != len(lines):
            self.path.write_bytes(b"".join(whole))  # torn when the job was killed
        return int(json.loads(whole[-1])["step"]) if whole else 0

    def _write(self, step: int, seconds: float) -> None:
        values = {"cpu_utilization_percentage": self._processors(seconds), "system_memory_usage_megabytes": self._memory()}
        for number, gpu in enumerate(self.gpus):
            values |= {f"gpu_{number}_{name}": value for name, value in _gpu(gpu).items()}
        named = {f"{self.prefix}{name}": round(value, 2) for name, value in values.items()}
        with self.path.open("a") as stream:
            stream.write(json.dumps({"step": step, "total": None, "time": time.time(), "values": named}) + "\n")

    def _family(self) -> list[psutil.Process]:
        return [self.root, *self.root.children(recursive=True)]

    def _processors(self, seconds: float) -> float:
        """Percent of one core, over all processes of the job, since the last call."""
        now: dict[int, float] = {}
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                now[process.pid] = times.user + times.system
        spent = sum(max(used - self.used.get(pid, 0.0), 0.0) for pid, used in now.items())
        self.used = now
        return 100 * spent / max(seconds, 1e-3)

    def _memory(self) -> float:
        """Resident memory of all processes of the job in megabytes; pages that they share are counted by each."""
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / 1e6


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
