"""Early stopping: remembers a student's best weights, counts evaluations without improvement, and decides when to stop.

Its state is part of every checkpoint, so that a resumed job decides as an undisturbed one would. `training` and
`evaluation` provide the values it judges by."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.stages.early_stopping import HIGHER, WithEarlyStopping
from jobs.megatron.weights import TensorOf

KEPT = "kept.json"
"""In the job's output: which step's weights became the model, and why."""

Evaluate = Callable[[], dict[str, float]]
"""Scores of the student as it is now; collective."""


@dataclass
class State:
    """Stored in checkpoints: the best value, its step, the value that improvements are measured from, and the checks
    since then."""

    best: float | None = None
    best_step: int = 0
    reference: float | None = None
    checks_without_improvement: int = 0


class Watch:
    """Watches one training run of `model`. Every rank holds one and sees the same numbers."""

    def __init__(self, model: GPTModel, config: WithEarlyStopping, evaluate: Evaluate | None = None) -> None:
        self.config, self.evaluate = config, evaluate
        self._unjudged = config.judged_after
        self.state = State()
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._best: dict[torch.nn.Parameter, torch.Tensor] = {}

    @property
    def patience_exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.config.patience is not None and self.state.checks_without_improvement >= self.config.patience

    def due(self, step: int) -> bool:
        """Whether the model is evaluated after `step`."""
        every = self.config.evaluate_every
        return every is not None and (step % every == 0 or step == self.config.steps)

    def check(self, step: int, validation: dict[str, float]) -> dict[str, float]:
        """After `step`, with the losses of a validation if there was one: evaluate if it is due, and judge; returns the
        new scores."""
        scores = self.evaluate() if self.evaluate and self.due(step) else {}
        values = validation | scores
        if self.config.best_by in values:
            self._judge(step, values[self.config.best_by])
        return scores

    def _judge(self, step: int, value: float) -> None:
        sign, state = -1.0 if self.config.best_by in HIGHER else 1.0, self.state
        if state.best is None or sign * value < sign * state.best:
            state.best, state.best_step = value, step
            if self.config.keep == "best":
                self._best = {parameter: parameter.detach().to("cpu", copy=True) for parameter in self._parameters}
        if step <= self._unjudged:
            return
        if state.reference is None or sign * value < sign * state.reference - self.config.min_delta:
            state.reference, state.checks_without_improvement = value, 0
        else:
            state.checks_without_improvement += 1

    def checkpoint_state(self, step: int) -> tuple[dict[str, Any], dict[str, TensorOf]]:
        """For the checkpoint of `step`: its notes, and the tensors to write beside the weights, none where those are
        the best."""
        best_is_older = self._best and self.state.best_step != step
        return asdict(self.state), (
            {"best": lambda parameter: self._best[parameter].to(parameter.device)} if best_is_older else {}
        )

    def resume(self, step: int, state: dict[str, Any], read: Callable[[str, TensorOf], None]) -> None:
        """Continue from a checkpoint already loaded into the model; `read` fills tensors from what `checkpoint_state`
        wrote under a name."""
        self.state = State(**state)
        if self.config.keep == "best" and self.state.best is not None:
            self._best = {parameter: parameter.detach().to("cpu", copy=True) for parameter in self._parameters}
            if self.state.best_step != step:
                read("best", lambda parameter: self._best[parameter])

    def finish(self, step: int, output: Path) -> None:
        """Put the weights to keep into the model, and record in kept.json which they are."""
        config, state = self.config, self.state
        kept_step = state.best_step if self._best else step
        with torch.no_grad():
            for parameter, tensor in self._best.items():
                parameter.copy_(tensor)
        stopped = None
        if self.patience_exhausted and step < config.steps:
            stopped = (
                f"{config.best_by} had not improved by more than {config.min_delta:g} in"
                f" {state.checks_without_improvement} checks{' of the last phase' if self._unjudged > 0 else ''}"
            )
        summary: dict[str, Any] = {
            "keep": config.keep,
            "step": kept_step,
            "trained": step,
            "steps": config.steps,
            "stopped": stopped,
        }
        summary |= {
            "best_by": config.best_by,
            "best_step": state.best_step if state.best is not None else None,
            "best": state.best,
        }
        assert state.best is None or math.isfinite(state.best)
        if torch.distributed.get_rank() == 0:
            (output / KEPT).write_text(
                json.dumps(summary | {"tokens": kept_step * config.global_batch * config.seq_length}, indent=2) + "\n"
            )
