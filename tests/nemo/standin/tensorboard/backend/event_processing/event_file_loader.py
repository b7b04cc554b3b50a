"""Stands in for TensorBoard's loader: an event file is JSON lines of step, time and val_loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace as Space


class EventFileLoader:
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def Load(self) -> Iterator[Space]:  # noqa: N802 - TensorBoard's name
        for line in self.path.read_text().splitlines():
            step, seconds, loss = json.loads(line)
            value = Space(tag="val_loss", tensor=Space(float_val=[loss]), simple_value=0.0)
            yield Space(step=step, wall_time=seconds, summary=Space(value=[value]))
