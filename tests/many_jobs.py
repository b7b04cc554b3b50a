"""Run under torchrun: several jobs one after another in the same processes, since starting each would cost more than running it.

Its argument is a JSON list of {stage, spec, port}; every rank runs every job, as the launcher's torchrun would start it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from jobs.entry import execute


def main(listed: Path) -> int:
    """Exit code of the first job that fails, else 0."""
    # The agent's store keeps where the ranks of the job before were, so each job's ranks meet in a store of their own.
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    for job in json.loads(listed.read_text()):
        os.environ["MASTER_PORT"] = str(job["port"])
        if code := execute(importlib.import_module(f"jobs.{job['stage']}").run, Path(job["spec"])):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
