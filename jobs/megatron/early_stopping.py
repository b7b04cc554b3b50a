"""Watches a student learn: remembers its best weights, counts how long nothing got better, and says when that is
enough.

What it knows is part of every checkpoint, so that a job that was killed decides as it would have. Which numbers there
are to judge by is decided by `training` and `exported`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel

from conf.stages.early_stopping import WithEarlyStopping
from jobs.megatron.weights import TensorOf

KEPT = "kept.json"
"""In the job's output: which step's weights became the model, and why."""

Evaluate = Callable[[], dict[str, float]]
"""Scores of the student as it is now; collective."""


@dataclass
class State:
    """What a checkpoint keeps: the best value seen, its step, the value that an improvement is counted from, the looks
    since then."""

    best: float | None = None
    best_step: int = 0
    counted: float | None = None
    waited: int = 0


class Watch:
    """For one training run of `model`. Every rank holds one and sees the same numbers."""

    def __init__(self, model: GPTModel, config: WithEarlyStopping, evaluate: Evaluate | None = None) -> None:
        self.config, self.evaluate = config, evaluate
        self.state = State()
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._best: dict[torch.nn.Parameter, torch.Tensor] = {}

    @property
    def enough(self) -> bool:
        """Whether patience has run out."""
        return self.config.patience is not None and self.state.waited >= self.config.patience

    def look(self, step: int, validation: dict[str, float]) -> dict[str, float]:
        """After `step`, with the losses of a validation or none: evaluate if it is time, and judge; returns the scores
        taken."""
        every = self.config.evaluate_every
        due = every is not None and (step % every == 0 or step == self.config.steps)
        scores = self.evaluate() if due and self.evaluate else {}
        seen = validation | scores
        if self.config.best_by in seen:
            self._judge(step, seen[self.config.best_by])
        return scores

    def _judge(self, step: int, value: float) -> None:
        sign, state = -1.0 if self.config.best_by == "mmlu" else 1.0, self.state
        if state.best is None or sign * value < sign * state.best:
            state.best, state.best_step = value, step
            if self.config.keep == "best":
                self._best = {parameter: parameter.detach().to("cpu", copy=True) for parameter in self._parameters}
        if state.counted is None or sign * value < sign * state.counted - self.config.min_delta:
            state.counted, state.waited = value, 0
        else:
            state.waited += 1

    def saved(self, step: int) -> tuple[dict[str, Any], dict[str, TensorOf]]:
        """For the checkpoint of `step`: what to note and which tensors to write beside the weights, none where they are
        the best."""
        away = self._best and self.state.best_step != step
        return asdict(self.state), (
            {"best": lambda parameter: self._best[parameter].to(parameter.device)} if away else {}
        )

    def resume(self, step: int, state: dict[str, Any], read: Callable[[str, TensorOf], None]) -> None:
        """Go on from a checkpoint that is in the model already; `read` fills tensors with what `saved` had written
        under a name."""
        self.state = State(**state)
        if self.config.keep == "best" and self.state.best is not None:
            self._best = {parameter: parameter.detach().to("cpu", copy=True) for parameter in self._parameters}
            if self.state.best_step != step:
                read("best", lambda parameter: self._best[parameter])

    def finish(self, step: int, output: Path) -> None:
        """Leave the weights to keep in the model, and say in kept.json which they are."""
        config, state = self.config, self.state
        kept = state.best_step if self._best else step
        with torch.no_grad():
            for parameter, tensor in self._best.items():
                parameter.copy_(tensor)
        stopped = None
        if self.enough and step < config.steps:
            stopped = f"{config.best_by} had not improved by more than {config.min_delta:g} in {state.waited} looks"
        about = {"keep": config.keep, "step": kept, "trained": step, "steps": config.steps, "stopped": stopped}
        about |= {
            "best_by": config.best_by,
            "best_step": state.best_step if state.best is not None else None,
            "best": state.best,
        }
        assert state.best is None or math.isfinite(state.best)
        if torch.distributed.get_rank() == 0:
            (output / KEPT).write_text(
                json.dumps(about | {"tokens": kept * config.global_batch * config.seq_length}, indent=2) + "\n"
            )
