"""How one job is spread over processes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from conf.base import MOST_PROCESSES, Config, Execution


class Parallel(Config):
    """Parallel layout of one job; it never changes the result."""

    processes: int = Field(default=1, ge=1, description="Total number of processes (ranks), one per GPU.")
    tensor: int = Field(
        default=1, ge=1, description="Tensor-parallel size: ranks that split each layer's heads, MLP and vocabulary."
    )
    pipeline: int = Field(default=1, ge=1, description="Pipeline-parallel size: ranks that split the layers.")
    context: int = Field(
        default=1, ge=1, description="Context-parallel size: ranks that split each sequence in training."
    )
    expert: int = Field(
        default=1,
        ge=1,
        description="Expert-parallel size: data- and context-parallel ranks that divide the experts of each layer.",
    )
    sequence: bool = Field(
        default=False,
        description=(
            "Sequence parallelism in training: tensor-parallel ranks also split the activations between layers by"
            " tokens."
        ),
    )
    recompute: bool = Field(
        default=False, description="Recompute a layer's activations in the backward pass instead of storing them."
    )
    distributed_optimizer: bool = Field(
        default=False,
        description=(
            "In training, data- and context-parallel ranks share the optimizer's states instead of each holding all of"
            " them."
        ),
    )
    threads: int | None = Field(
        default=None, ge=1, le=MOST_PROCESSES, description="CPU threads per process; empty: all cores of the machine."
    )

    @property
    def sharing(self) -> int:
        """Ranks among which the states of a weight's optimizer are spread."""
        return self.data * self.context if self.distributed_optimizer else 1

    @property
    def sharing_experts(self) -> int:
        """The same for a weight of an expert, which fewer ranks hold."""
        return max(1, self.sharing // self.expert)

    @property
    def data(self) -> int:
        """Data-parallel size: processes / (tensor x pipeline x context)."""
        return self.processes // (self.tensor * self.pipeline * self.context)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        model = self.tensor * self.pipeline * self.context
        if self.processes % model:
            context = f" x context {self.context}" if self.context > 1 else ""
            raise ValueError(
                f"parallel.processes is {self.processes}, which is not a multiple of tensor {self.tensor} x pipeline"
                f" {self.pipeline}{context}; choose a multiple of {model}"
            )
        if self.data * self.context % self.expert:
            context = f" x context {self.context}" if self.context > 1 else ""
            raise ValueError(
                f"parallel.expert is {self.expert}, but experts are divided over the data-parallel {self.data}{context}"
                " ranks, of which it is no divisor; choose one, or raise processes"
            )
        if self.sequence and self.tensor == 1:
            raise ValueError("parallel.sequence is true but parallel.tensor is 1; raise tensor or remove sequence")
        if self.distributed_optimizer and self.sharing == 1:
            raise ValueError(
                f"parallel.distributed_optimizer is true but each weight is on one of the {self.processes} processes;"
                " raise processes or remove distributed_optimizer"
            )
        return self


def _one_process(parallel: Parallel) -> Parallel:
    if parallel.processes > 1:
        raise ValueError(f"processes is {parallel.processes} but the stage runs in one process; remove it")
    return parallel


RunsAs = Annotated[Parallel, Execution()]
InOneProcess = Annotated[Parallel, Execution(), AfterValidator(_one_process)]


def pipeline_only(parallel: Parallel, what: str) -> Parallel:
    """Raise ValueError for a layout that ModelOpt's Minitron does not support; `what` starts the message."""
    if parallel.tensor != 1 or parallel.data != 1 or parallel.context != 1:  # so that expert is 1 as well
        raise ValueError(f"{what} only with tensor-, data- and context-parallel size 1; use parallel.pipeline")
    return parallel
