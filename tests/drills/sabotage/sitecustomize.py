"""Faults for drills, put into every Python process of a run by PYTHONPATH; nothing of it is shipped.

`DRILL` lists faults as `name@step`, each of which befalls the training loop once before that step, as the folder
`DRILL_MARKS` remembers: `hold` waits there until the job is asked to end, `lock` waits for ever in C code that keeps
Python's lock, `late` lets the deadline be now, `memory` raises PyTorch's own out-of-memory error, `full` fills the disk
of the file `DRILL_FILLER` up to what half a checkpoint takes. On a cluster without that folder: `broken@step` raises an
error on rank 1, `slow@seconds` makes every step last that much longer. `absent` makes jobs end before they begin,
`idle` lets them wait for ever before they import what is heavy."""

import ctypes
import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

TARGET = "jobs.megatron.training"
LEFT_BYTES = 400_000


def _strike(name, mark):
    if name == "hold":
        while not sys.modules["jobs.runtime.interrupt"]._stop.terminated.is_set():
            time.sleep(0.01)
    if name == "lock":
        process = ctypes.PyDLL(None)  # unlike CDLL it does not let other threads run meanwhile
        mutex = ctypes.create_string_buffer(64)
        while True:
            process.pthread_mutex_lock(mutex)  # the second time it waits for itself
    if name == "late":
        sys.modules["jobs.runtime.interrupt"]._stop.deadline = time.monotonic()
    if name == "memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
    if name == "full":
        with Path(os.environ["DRILL_FILLER"]).open("wb") as filler:
            free = os.fstatvfs(filler.fileno())
            os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - LEFT_BYTES)


def _sabotaged(step):
    def faulty(run, done):
        for fault in filter(None, os.environ.get("DRILL", "").split()):
            name, _, at = fault.partition("@")
            if name == "slow":
                time.sleep(float(at))
            if name == "broken" and at == str(done) and os.environ["RANK"] == "1":
                raise RuntimeError("a drilled fault")
            mark = Path(os.environ.get("DRILL_MARKS", "")) / fault
            if at == str(done) and name != "broken" and not mark.exists():
                mark.touch()
                _strike(name, mark)
        return step(run, done)

    return faulty


class _Finder:
    """Lets the module be found and executed as ever, then changes its training step."""

    def find_spec(self, name, path=None, target=None):
        if name == "jobs.runtime.entry" and os.environ.get("DRILL") == "absent":
            os._exit(127)  # as where an interpreter or a library is missing
        if name == "jobs.megatron.device" and os.environ.get("DRILL") == "idle":
            (Path(os.environ["DRILL_MARKS"]) / f"rank-{os.environ['RANK']}").touch()
            threading.Event().wait()
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module._Run.step = _sabotaged(module._Run.step)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("DRILL"):
    sys.meta_path.insert(0, _Finder())
