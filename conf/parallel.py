"""How one job is spread over processes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from conf.base import Config, Execution


class Parallel(Config):
    """How one job is spread over processes; it never changes what is made."""

    processes: int = Field(default=1, ge=1, description="Processes (ranks) of the job, one a GPU, over all its nodes.")
    tensor: int = Field(
        default=1, ge=1, description="Tensor-parallel size: ranks that share each layer's heads, MLP and vocabulary."
    )
    pipeline: int = Field(default=1, ge=1, description="Pipeline-parallel size: ranks that share the layers.")
    context: int = Field(
        default=1, ge=1, description="Context-parallel size: ranks that share each sequence's tokens in training."
    )
    sequence: bool = Field(
        default=False,
        description=(
            "Sequence parallelism: the tensor-parallel ranks share the tokens between their layers too, in training."
        ),
    )
    recompute: bool = Field(
        default=False, description="Compute a layer's activations again in backward instead of keeping them."
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads a process; empty: all cores of the machine."
    )

    @property
    def data(self) -> int:
        """Data-parallel size: what tensor, pipeline and context parallelism leave of the processes."""
        return self.processes // (self.tensor * self.pipeline * self.context)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        model = self.tensor * self.pipeline * self.context
        if self.processes % model:
            context = f" x context {self.context}" if self.context > 1 else ""
            raise ValueError(
                f"parallel.processes is {self.processes}, not a multiple of tensor {self.tensor} x pipeline"
                f" {self.pipeline}{context}; choose a multiple of {model}"
            )
        if self.sequence and self.tensor == 1:
            raise ValueError(
                "parallel.sequence is true but parallel.tensor is 1, so no ranks share a layer; raise tensor or leave"
                " it out"
            )
        return self


def _one_process(parallel: Parallel) -> Parallel:
    if parallel.processes > 1:
        raise ValueError(f"processes is {parallel.processes}, but the stage runs in one process; leave it out")
    return parallel


RunsAs = Annotated[Parallel, Execution()]
InOneProcess = Annotated[Parallel, Execution(), AfterValidator(_one_process)]


def pipeline_only(parallel: Parallel, what: str) -> Parallel:
    """Refuse a layout that ModelOpt's Minitron cannot take; `what` begins the sentence."""
    if parallel.tensor != 1 or parallel.data != 1 or parallel.context != 1:
        raise ValueError(f"{what} with tensor-, data- and context-parallel size 1; spread it with parallel.pipeline")
    return parallel
