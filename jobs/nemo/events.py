"""Prints a scalar's curve from TensorBoard's event files as JSON; run by NeMo's interpreter: `python nemo_events.py
FOLDER TAG`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Step and value, in order; of a step that was logged twice the later value."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[int, tuple[float, float]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == tag and (event.step not in found or found[event.step][0] <= event.wall_time):
                    number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                    found[event.step] = (event.wall_time, number)
    return [(step, value) for step, (_, value) in sorted(found.items())]


if __name__ == "__main__":
    print(json.dumps(curve(Path(sys.argv[1]), sys.argv[2])))
