"""Finds spikes during training and says which steps' updates are left out.

Its state is part of every checkpoint, so that a resumed job judges as an undisturbed one would."""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import torch

from conf.stages.spikes import Spikes
from jobs.runtime.exit import Diverged

SPIKES = "spikes.json"
"""In the job's output: the steps that were skipped, and why."""


class SpikeWatch:
    """Watches one training run. Every rank holds one and sees the same numbers."""

    def __init__(self, config: Spikes) -> None:
        self.config = config
        self.skipped: list[dict[str, Any]] = []
        self._norms: deque[float] = deque(maxlen=config.window)
        self._losses: deque[float] = deque(maxlen=config.window)

    def skips(self, step: int, loss: float, norm: float) -> bool:
        """Whether `step` is a spike, by the loss that is minimised and the gradient's norm before clipping; collective.
        Raises Diverged when too many steps in a row are."""
        reason = self._reason(loss, norm)
        spike = torch.tensor(float(reason is not None), device=torch.cuda.current_device())
        torch.distributed.all_reduce(spike, op=torch.distributed.ReduceOp.MAX)
        if not spike.item():
            self._norms.append(norm)
            self._losses.append(loss)
            return False
        reason = reason or "another rank found a spike"
        self.skipped.append({"step": step, "reason": reason})
        run = [each["step"] for each in self.skipped[-self.config.most :]]
        if run == list(range(step - self.config.most + 1, step + 1)):
            raise Diverged(
                f"{self.config.most} steps in a row were skipped, the last, step {step}, because {reason}; lower lr,"
                " look at the data, or raise spikes.most (checkpoints hold only steps before it)"
            )
        return True

    def _reason(self, loss: float, norm: float) -> str | None:
        """Why this is a spike; None: it is not."""
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"its {name} is {value}"
        if len(self._norms) < self.config.window:
            return None
        for name, value, before, factor in (
            ("gradient norm", norm, self._norms, self.config.grad_norm),
            ("loss", loss, self._losses, self.config.loss),
        ):
            median = statistics.median(before)
            if factor is not None and value > factor * median:
                return (
                    f"its {name} {value:.4g} is more than {factor:g} times {median:.4g}, the median of the"
                    f" {self.config.window} steps before"
                )
        return None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"norms": list(self._norms), "losses": list(self._losses), "skipped": list(self.skipped)}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._norms.extend(state["norms"])
        self._losses.extend(state["losses"])
        self.skipped = list(state["skipped"])

    def finish(self, steps: int, output: Path) -> None:
        """Record the skipped ones of `steps` in spikes.json."""
        if torch.distributed.get_rank() == 0:
            told = {"steps": steps, "skipped": self.skipped} | self.config.model_dump()
            (output / SPIKES).write_text(json.dumps(told, indent=2) + "\n")
