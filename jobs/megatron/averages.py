"""The average of the weights beside training: updated after each step, validated, kept in checkpoints, exported.

One fp32 copy of each trained parameter's local part, so that it costs no communication; how much a step counts for is
`conf.stages.average`'s to say."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from megatron.core.models.gpt import GPTModel

from conf.stages.training import Training
from jobs.megatron.optimizer import master

AVERAGE = "average.json"
"""In the job's output: what was averaged, and whether it became the model."""


class WeightAverage:
    """The average of one training run of `model`."""

    def __init__(self, model: GPTModel, config: Training) -> None:
        assert config.average, "the caller asks only where the recipe has an average"
        self.config, self.average, self.step = config, config.average, 0
        self._tensors = {
            parameter: torch.zeros_like(master(parameter), dtype=torch.float32, requires_grad=False)
            for parameter in model.parameters()
            if parameter.requires_grad
        }

    @property
    def begun(self) -> bool:
        """Whether it holds any weights yet."""
        return self.average.begun(self.step, self.config.steps)

    def tensor_of(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """Its tensor for a parameter, for checkpoints."""
        return self._tensors[parameter]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step`, from 1."""
        self.step = step
        share = self.average.share(step, self.config.steps)
        if share:
            for parameter, tensor in self._tensors.items():
                tensor.lerp_(master(parameter).detach(), share)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The model with the average as its weights; afterwards its own are back, bit for bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange(back=True)

    @torch.no_grad()
    def _exchange(self, *, back: bool = False) -> None:
        # bf16 weights are their fp32 masters rounded, and need no copy; fp32 weights are their own masters.
        for parameter, tensor in self._tensors.items():
            if master(parameter) is parameter:
                weights = parameter.detach().clone()
                parameter.copy_(tensor)
                tensor.copy_(weights)
            else:
                parameter.copy_(master(parameter) if back else tensor)

    @torch.no_grad()
    def finish(self, output: Path, losses: dict[str, float]) -> None:
        """Put the average into the model if it is to be exported, and record it in average.json with the last losses
        of a validation."""
        exported = self.config.export == "average"
        if exported:
            for parameter, tensor in self._tensors.items():
                parameter.copy_(tensor)
        if torch.distributed.get_rank() == 0:
            told = self.average.model_dump(exclude_none=True) | {"step": self.step, "exported": exported}
            (output / AVERAGE).write_text(json.dumps(told | {"losses": losses}, indent=2) + "\n")
