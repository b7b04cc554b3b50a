"""Tells of heads for multi-token prediction that a job's input has beside its model, and its output will not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobs.runtime.entry import Metrics

NOTES = "mtp.json"


def tell(artifact: Path, output: Path, why: str, step: int = 0) -> dict[str, Any]:
    """Print, and log after `step`, that the heads of `artifact` are left out, and `why`. Returns {"mtp_dropped": ...}
    for the job's record, empty where there are none. For one rank."""
    path = artifact / NOTES
    if not path.is_file():
        return {}
    notes = json.loads(path.read_text())
    heads, count = notes["heads"], notes["parameters"]
    named = "the head" if heads == 1 else f"the {heads} heads"
    print(f"{named} for multi-token prediction ({count:,} parameters) of the input: left out, since {why}")
    Metrics(output).log(step, None, dropped_mtp_heads=float(heads), dropped_mtp_params=float(count))
    return {"mtp_dropped": {"heads": heads, "parameters": count, "why": why}}
