"""What is kept of a training run while it runs: its checkpoints, which it resumes from, writes and goes back to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.megatron import checkpoint
from jobs.megatron.early_stopping import Watch
from jobs.runtime.checkpoint_folder import existing
from jobs.runtime.entry import Metrics

if TYPE_CHECKING:
    from jobs.megatron.training import _Run


class Checkpoints:
    """The checkpoints of `run` under `output`; `start` is one from elsewhere that it goes on from. All ranks call its
    methods."""

    def __init__(
        self,
        run: _Run,
        hf_config: dict[str, Any],
        output: Path,
        *,
        watch: Watch | None,
        metrics: Metrics | None,
        start: Path | None,
    ) -> None:
        self.run, self.hf_config, self.output, self.start = run, hf_config, output, start
        self.watch, self.metrics = watch, metrics
        self.folder = output / "checkpoints"
        self.own = bool(existing(self.folder))
        """Whether a job before this one left any."""
        every = run.config.spikes.point_every if run.config.spikes else None
        self.saver = checkpoint.Saver(self.folder, run.config.checkpoints_kept, every)

    def resume(self) -> int:
        """Load the newest, else the start; returns its step, 0 where there is none."""
        model, optimizer = self.run.model, self.run.optimizer
        step = checkpoint.resume(self.folder, model, optimizer, self.hf_config, start=self.start, **self._beside())
        self.run.resume(step)
        return step

    def save(self, step: int) -> None:
        """Begin to write that of `step`."""
        self.saver.save(step, self.run.model, self.run.optimizer, self.hf_config, **self._beside())

    def go_back(self) -> int:
        """Go back to the last one before the spike that was met; returns its step."""
        assert self.run.spikes, "only spikes are gone back from"
        self.saver.wait()
        self.run.spikes.go_back(self.output, self.folder)
        step = self.resume()
        if self.metrics:
            self.metrics.rewind(step)
        return step

    def _beside(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and optimizer."""
        average = self.run.average.tensor_of if self.run.average else None
        return {"watch": self.watch, "average": average, "spikes": self.run.spikes}
