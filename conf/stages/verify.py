"""The verify stage: whether an inference engine computes from an export what was measured."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.base import Execution, StageConfig
from conf.estimate import memory, passes
from conf.estimate.numbers import JobEstimate, Models, StageEstimate
from conf.parallel import InOneProcess, Parallel
from conf.shape import num_params

BOUNDS = {16: 0.003, 8: 0.02, 4: 0.05}
"""Largest difference by bits of the most rounded weights, nats per token. Rounding inputs to few bits multiplies what
kernels do differently."""
FEWEST = 4
"""Sequences below which an interval says nothing."""


class VerifyConfig(StageConfig):
    """Held-out text scored by an engine and by imbik's simulation; the stage fails where they disagree."""

    stage: ClassVar[str] = "verify"
    writes: ClassVar[tuple[str, ...]] = ("verify.json",)

    engine: Literal["vllm"] = Field(default="vllm", description="Engine that opens the models, where jobs run.")
    formats: Annotated[tuple[str, ...], Execution()] = Field(
        default=(), description="Entries of quantize that are verified; empty: all."
    )
    sequences: int = Field(default=16, ge=FEWEST, description="Sequences of the test split.")
    seq_length: int = Field(default=128, ge=8, description="Tokens per sequence.")
    max_difference: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Largest mean difference of the two losses, nats per token; empty: 0.003 for 16-bit weights, 0.02 for 8-bit"
            " and 0.05 for 4-bit ones."
        ),
    )
    batch: Annotated[int, Execution()] = Field(default=4, ge=1, description="Sequences per forward pass.")
    precision: Literal["bf16"] = Field(default="bf16", description="Precision of both.")
    parallel: InOneProcess = Field(default=Parallel(), description="Parallel layout (one process).")

    def covers(self, name: str) -> bool:
        """Whether an entry of quantize is verified."""
        return not self.formats or name in self.formats

    def estimate(self, models: Models) -> StageEstimate | None:
        """One copy of the model at a time: the engine ends before the simulation begins."""
        shape, params = models.after, num_params(models.after)

        def peak(_: Parallel, __: int, device: passes.Device) -> memory.Memory:
            return memory.scoring(shape, params, passes.batch_of(self, self.batch, device))

        tokens = 2 * self.sequences * self.seq_length
        return StageEstimate(params=params, tokens=tokens, job=JobEstimate(memory=peak))
