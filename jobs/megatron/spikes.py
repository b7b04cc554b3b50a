"""Finds spikes during training and says which steps' updates are left out, or where training goes back to.

Its state is part of every checkpoint, so that a resumed job judges as an undisturbed one would. Where training goes
back, a file of the job's output says so, because the checkpoint that it goes on from is older."""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any, NoReturn

import torch

from conf.files import write_whole
from conf.stages.spikes import Spikes
from jobs.runtime import checkpoint_folder
from jobs.runtime.exit import Diverged

SPIKES = "spikes.json"
"""In the job's output: the steps that were skipped, and why."""
REWINDS = "rewinds.json"
"""In the job's output, while it runs and after: each time that training went back, in order."""


class Rewind(Exception):
    """A spike was found, and training goes on from an earlier step."""


class SpikeWatch:
    """Watches one training run. Every rank holds one and sees the same numbers."""

    def __init__(self, config: Spikes) -> None:
        self.config = config
        self.skipped: list[dict[str, Any]] = []
        self.rewound: list[dict[str, Any]] = []
        self._norms: deque[float] = deque(maxlen=config.window)
        self._losses: deque[float] = deque(maxlen=config.window)

    def skips(self, step: int, loss: float, norm: float) -> bool:
        """Whether `step` is a spike, by the loss that is minimised and the gradient's norm before clipping; collective.
        Raises Diverged when too many steps in a row are, and Rewind where training goes back."""
        reason = self._reason(loss, norm)
        spike = torch.tensor(float(reason is not None), device=torch.cuda.current_device())
        torch.distributed.all_reduce(spike, op=torch.distributed.ReduceOp.MAX)
        if not spike.item():
            self._norms.append(norm)
            self._losses.append(loss)
            return False
        reason = reason or "another rank found a spike"
        if self.config.point_every:
            self._go_back(step, reason, self.config.point_every)
        self.skipped.append({"step": step, "reason": reason})
        run = [each["step"] for each in self.skipped[-self.config.most :]]
        if run == list(range(step - self.config.most + 1, step + 1)):
            raise Diverged(
                f"{self.config.most} steps in a row were skipped, the last, step {step}, because {reason}; lower lr,"
                " look at the data, or raise spikes.most (checkpoints hold only steps before it)"
            )
        return True

    def _go_back(self, step: int, reason: str, every: int) -> NoReturn:
        if len(self.rewound) >= self.config.most_rewinds:
            times = f"{len(self.rewound)} time{'s' if len(self.rewound) > 1 else ''}"
            raise Diverged(
                f"step {step} is a spike because {reason}, and training went back {times} already; lower lr, look at"
                " the data, or raise spikes.rewinds"
            )
        point = (step - 1) // every * every
        self.rewound.append({"step": step, "to": point, "left_out": step - point, "reason": reason})
        raise Rewind(f"step {step} is a spike because {reason}; training goes on from step {point} with other batches")

    def point(self, step: int) -> bool:
        """Whether training may go back to `step`."""
        return self.config.point_every is not None and step % self.config.point_every == 0

    def begin(self, output: Path) -> None:
        """Read how often a killed job went back; collective."""
        path = output / REWINDS
        box = [json.loads(path.read_text()) if torch.distributed.get_rank() == 0 and path.is_file() else []]
        torch.distributed.broadcast_object_list(box, src=0)
        self.rewound = box[0]

    def go_back(self, output: Path, folder: Path) -> None:
        """Leave in `output` that training went back, and in `folder` only checkpoints from which it goes on;
        collective. In this order: a job killed in between finds the same spike once more."""
        torch.distributed.barrier()
        if torch.distributed.get_rank() == 0:
            checkpoint_folder.forget(folder, self.rewound[-1]["to"])
            write_whole(output / REWINDS, json.dumps(self.rewound, indent=2) + "\n")
        torch.distributed.barrier()
        if not checkpoint_folder.existing(folder):
            raise ValueError(
                f"training goes back to step {self.rewound[-1]['to']}, but {folder} has no checkpoint from which it"
                " could; start the stage again"
            )

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
        for values, kept in ((self._norms, state["norms"]), (self._losses, state["losses"])):
            values.clear()
            values.extend(kept)
        self.skipped = list(state["skipped"])

    def finish(self, steps: int, output: Path) -> None:
        """Record the skipped ones of `steps` in spikes.json."""
        if torch.distributed.get_rank() == 0:
            told = {"steps": steps, "skipped": self.skipped, "rewound": self.rewound} | self.config.model_dump()
            (output / SPIKES).write_text(json.dumps(told, indent=2) + "\n")
