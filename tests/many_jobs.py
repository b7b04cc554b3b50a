"""Run under torchrun: several jobs one after another in the same processes, since starting each would cost more than running it.

Its argument is a JSON list of [stage, spec]; every rank runs every job, as it would if torchrun had started it for that alone.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import sys
from pathlib import Path

import torch.distributed

from jobs.entry import execute


def main(listed: Path) -> int:
    """Exit code of the first job that fails, else 0."""
    agent = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    start = torch.distributed.init_process_group
    for number, (stage, spec) in enumerate(json.loads(listed.read_text())):
        # The agent's store keeps where the ranks of the job before were, so each job's ranks meet under keys of their own.
        store = torch.distributed.PrefixStore(f"job-{number}", agent)
        place = {"store": store, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
        torch.distributed.init_process_group = functools.partial(start, **place)
        if code := execute(importlib.import_module(f"jobs.{stage}").run, Path(spec)):
            return code
        gc.collect()  # what a job leaves holds gloo's threads, which would keep the cores awake
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
