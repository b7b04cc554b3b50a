"""Parts of a training: the first steps, whose state a trunk keeps, and those that a later job adds to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.runtime.checkpoint_folder import keep
from jobs.runtime.entry import Metrics

STATE = "state"
"""Folder of a trunk with the checkpoint of its last step."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which of its steps a job makes: those after the state of a `trunk`, up to `until`; None: from the first, to the
    last."""

    trunk: Path | None = None
    until: int | None = None

    @property
    def start(self) -> Path | None:
        """Folder of the checkpoint to begin with."""
        return self.trunk / STATE if self.trunk else None

    def begin(self, metrics: Metrics, step: int, end: int, *, own: bool) -> None:
        """Have `metrics` end with `step`, from which a job of `end` steps goes on; `own`: with a checkpoint of its
        own."""
        if self.trunk and not own:
            metrics.follow(self.trunk / "metrics.jsonl", end)
        # Without a checkpoint, the job validates before its first step once more; an import's figures stay.
        metrics.rewind(step, repeated="val_" if step == 0 else None)

    def end(self, checkpoints: Path, step: int, output: Path) -> None:
        """Keep the state after `step`, the last one."""
        keep(checkpoints, step, output / STATE)


WHOLE = Part()
