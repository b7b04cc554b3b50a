"""How one job is spread over processes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from conf.base import Config, Execution


class Parallel(Config):
    """How one job is spread over processes; it never changes what is made."""

    processes: int = Field(default=1, ge=1, description="Processes torchrun starts on this machine.")
    tensor: int = Field(default=1, ge=1, description="Tensor-parallel size.")
    pipeline: int = Field(default=1, ge=1, description="Pipeline-parallel size.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads a process; empty: all cores of the machine.")

    @property
    def data(self) -> int:
        """Data-parallel size: what tensor and pipeline parallelism leave of the processes."""
        return self.processes // (self.tensor * self.pipeline)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.processes % (self.tensor * self.pipeline):
            raise ValueError(
                f"parallel.processes is {self.processes}, not a multiple of tensor {self.tensor} x pipeline {self.pipeline}; "
                f"choose a multiple of {self.tensor * self.pipeline}"
            )
        return self


RunsAs = Annotated[Parallel, Execution()]
