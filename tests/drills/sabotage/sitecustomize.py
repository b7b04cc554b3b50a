"""Faults for drills, put into every Python process of a run by PYTHONPATH; nothing of it is shipped.

`DRILL` lists faults as `name@step`, each of which befalls the training loop once, as the folder `DRILL_MARKS` remembers: `stop` stops
the rank as SIGSTOP does, `late` lets the deadline be now, `memory` raises PyTorch's own out-of-memory error. `absent` makes jobs end
before they begin.
"""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

TARGET = "jobs.megatron.training"


def _sabotaged(step):
    def faulty(run, done):
        for fault in filter(None, os.environ.get("DRILL", "").split()):
            name, _, at = fault.partition("@")
            mark = Path(os.environ["DRILL_MARKS"]) / fault
            if at == str(done) and not mark.exists():
                mark.touch()
                if name == "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                if name == "late":
                    sys.modules["jobs.interrupt"]._job.deadline = time.monotonic()
                if name == "memory":
                    import torch

                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return step(run, done)

    return faulty


class _Finder:
    """Lets the module be found and executed as ever, then changes its training step."""

    def find_spec(self, name, path=None, target=None):
        if name == "jobs.entry" and os.environ.get("DRILL") == "absent":
            os._exit(127)  # as where an interpreter or a library is missing
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
