"""Prints a scalar's curve from TensorBoard's event files as JSON; run by NeMo's interpreter: `python events.py FOLDER
TAG`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Steps and values, in order; for a step logged twice, the later value."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    latest: dict[int, tuple[float, float]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == tag and (event.step not in latest or latest[event.step][0] <= event.wall_time):
                    number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                    latest[event.step] = (event.wall_time, number)
    return [(step, value) for step, (_, value) in sorted(latest.items())]


if __name__ == "__main__":
    print(json.dumps(curve(Path(sys.argv[1]), sys.argv[2])))
