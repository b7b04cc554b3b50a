"""Estimates for one stage before it runs: parameters, tokens, disk, model FLOPs and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from conf.estimate.flops import Work
from conf.estimate.memory import LIBRARIES, Copies, Memory
from conf.estimate.passes import Device
from conf.parallel import Parallel
from conf.shape import Shape

if TYPE_CHECKING:
    from conf.stages.training import Training

Spread = Literal["one", "pipeline", "tensor", "training"]
"""How a stage's job can be parallelized: one process, pipeline stages, also tensor-parallel ranks, or everything
(training)."""

Peak = Callable[[Parallel, int, Device], Memory]
"""Memory of a job's fullest rank as a function of layout, micro-batch and device."""


class Forward(Protocol):
    """Settings of a stage with forward passes over several ranks."""

    @property
    def parallel(self) -> Parallel: ...
    @property
    def micro_batch(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Models:
    """Shapes of the models of a planned stage: `before` and `after` it, and the `teacher`. `where` is the path of its
    settings in the recipe, `weight_bytes` the bytes per weight before quantization, `cuts` the number of cuts to
    score."""

    teacher: Shape
    before: Shape
    after: Shape
    where: str
    weight_bytes: int = 2
    cuts: int = 0


@dataclass(frozen=True, kw_only=True)
class JobEstimate:
    """Layout and memory of a stage's job. `where` is the path of its settings in the recipe; `shapes` are the models
    that a layout must divide."""

    memory: Peak
    parallel: Parallel = field(default_factory=Parallel)
    micro_batch: int = 1
    spread: Spread = "one"
    where: str = ""
    shapes: tuple[Shape, ...] = ()
    training: Training | None = None

    @classmethod
    def forward(cls, config: Forward, peak: Peak, spread: Spread, where: str, shape: Shape) -> JobEstimate:
        """Estimate for a stage with forward passes only."""
        return cls(
            memory=peak,
            parallel=config.parallel,
            micro_batch=config.micro_batch,
            spread=spread,
            where=where,
            shapes=(shape,),
        )

    def peak(self, device: Device) -> Memory:
        """Memory of the fullest rank with the recipe's layout."""
        return self.memory(self.parallel, self.micro_batch, device)


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """Estimates for a stage; None if unknown. `active` are the parameters that a token passes, in a mixture of experts;
    `beside` those of heads that learn beside its model; `cache` the bytes of KV cache that its model takes for a token,
    in 16 bits; `disk` is the size of its artifact, `scratch` additional disk while it runs, `copies` additional main
    memory."""

    params: int | None = None
    active: int | None = None
    beside: int | None = None
    cache: int | None = None
    tokens: int | None = None
    steps: int | None = None
    disk: int | None = None
    scratch: int | None = None
    work: Work | None = None
    job: JobEstimate | None = None
    copies: Copies = field(default_factory=Copies)

    @property
    def memory(self) -> int | None:
        """Bytes of all its processes together on CPUs; None without a job."""
        if self.job is None:
            return None
        ranks = self.job.parallel.processes
        return (self.job.peak("cpu").total - LIBRARIES) * ranks + self.copies.of(ranks)

    def cells(self) -> tuple[str, ...]:
        """Parameters, tokens, steps, memory and disk as table cells."""
        values = ((self.params, ""), (self.tokens, ""), (self.steps, ""), (self.memory, "B"), (self.disk, "B"))
        params, *others = (short(value, unit) for value, unit in values)
        params += f", {short(self.active)} active" if self.active else ""
        params += f" + {short(self.beside)} in heads" if self.beside else ""
        return (params, *others)


def short(value: float | None, unit: str = "") -> str:
    """A count or size with three digits: 7.57 B, 16.4 GB; a dash if unknown."""
    if value is None:
        return "-"
    for size, prefix in ((10**12, "T"), (10**9, "G" if unit else "B"), (10**6, "M"), (10**3, "K")):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}".strip()
    return f"{value:.3g} {unit}".strip()
