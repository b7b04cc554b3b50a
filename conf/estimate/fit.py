"""Whether a stage's job fits the cluster's GPUs, and if not, the nearest layout that does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from conf.estimate import heads
from conf.estimate.memory import Memory
from conf.estimate.numbers import JobEstimate
from conf.parallel import Parallel

MOST_DOUBLINGS = 6
"""How often the search for a layout may double the number of GPUs."""

MARGIN = 0.05
"""Share by which a measured peak may be above its estimate (measured: -5% to +15%; see flows/README.md)."""

COSTS = {"sequence": 1, "micro_batch": 2, "expert": 4, "recompute": 5, "tensor": 8, "context": 16, "pipeline": 16}
COSTS |= {"processes": 64}
"""Cost of changing a setting, per halving or doubling or per switch. More GPUs are the last resort."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """An alternative layout for a job."""

    parallel: Parallel
    micro_batch: int
    memory: Memory

    def describe(self, job: JobEstimate) -> str:
        """The settings that differ, as recipe overrides."""
        names = [name for name in Parallel.model_fields if getattr(self.parallel, name) != getattr(job.parallel, name)]
        changed = [f"{job.where}.parallel.{name}={str(getattr(self.parallel, name)).lower()}" for name in names]
        changed += [f"{job.where}.micro_batch={self.micro_batch}"] * (self.micro_batch != job.micro_batch)
        return " ".join(changed)


def misfit(label: str, job: JobEstimate, gpu_name: str, gpu_bytes: float, gpus_per_node: int) -> str | None:
    """One sentence with the nearest layout that fits if the job `label` does not fit its GPUs; None if it fits."""
    peak = job.peak("cuda")
    if peak.total <= gpu_bytes:
        return None
    excess = f"{label} needs {peak.total / 1e9:.1f} GB per GPU but {gpu_name} has {gpu_bytes / 1e9:g} GB"
    layout = nearest(job, gpu_bytes, gpus_per_node)
    if layout is None:
        return (
            f"{excess}, and no layout on up to {job.parallel.processes * 2**MOST_DOUBLINGS} GPUs fits; choose larger"
            " GPUs or a smaller model"
        )
    return f"{excess}; the nearest layout that fits is {layout.describe(job)} ({layout.memory.total / 1e9:.1f} GB)"


def tight(label: str, job: JobEstimate, gpu_name: str, gpu_bytes: float, gpus_per_node: int) -> str | None:
    """One sentence if the job `label` fits its GPUs only if its estimate is not too low; None if it surely fits or
    surely does not."""
    needed = job.peak("cuda").total
    if not gpu_bytes / (1 + MARGIN) < needed <= gpu_bytes:
        return None
    close = (
        f"{label} needs about {needed / 1e9:.1f} of the {gpu_bytes / 1e9:g} GB of {gpu_name}; an estimate may be"
        f" {MARGIN:.0%} too low, so it may not fit"
    )
    layout = nearest(job, gpu_bytes, gpus_per_node)
    return (
        f"{close}; {layout.describe(job)} fits with a margin ({layout.memory.total / 1e9:.1f} GB)" if layout else close
    )


def nearest(job: JobEstimate, gpu_bytes: float, gpus_per_node: int) -> Layout | None:
    """The layout that fits with the margin, at the lowest cost of changes; None if none of the candidates does."""
    best: tuple[int, Layout] | None = None
    for parallel, micro_batch in _layouts(job, gpus_per_node):
        cost = _cost(job, parallel, micro_batch)
        if best and cost >= best[0]:
            continue
        memory = job.memory(parallel, micro_batch, "cuda")
        if memory.total * (1 + MARGIN) <= gpu_bytes:
            best = cost, Layout(parallel=parallel, micro_batch=micro_batch, memory=memory)
    return best[1] if best else None


def _layouts(job: JobEstimate, gpus_per_node: int) -> Iterator[tuple[Parallel, int]]:
    """Every layout that the job supports and that divides its models. Tensor parallelism stays within a node."""
    batches = sorted(
        {max(1, job.micro_batch >> halved) for halved in range(job.micro_batch.bit_length())}, reverse=True
    )
    if job.spread == "one":
        return
    headed = bool(job.training and heads.count(job.training))  # heads run on neither of the two axes
    pipelines = [
        size for size in range(1, 2 if headed else 65) if all(shape.num_layers % size == 0 for shape in job.shapes)
    ]
    if job.spread == "pipeline":
        for pipeline, micro_batch in product(pipelines, batches):
            yield job.parallel.model_copy(update={"processes": pipeline, "pipeline": pipeline}), micro_batch
        return
    trains = job.spread == "training"
    tensors = [
        size for size in range(1, max(1, gpus_per_node) + 1) if gpus_per_node % size == 0 and _divides(job, size)
    ]
    spreads = job.training if trains and not headed else None
    contexts = [size for size in (1, 2, 4, 8, 16) if spreads and spreads.spreads_over(size)] or [1]
    ranks = [job.parallel.processes << doubled for doubled in range(MOST_DOUBLINGS + 1)]
    switches = (False, True) if trains else (False,)
    for processes, tensor, pipeline, context in product(ranks, tensors, pipelines, contexts):
        if processes % (tensor * pipeline * context):
            continue
        data = processes // (tensor * pipeline * context)
        if job.parallel.distributed_optimizer and data * context == 1:
            continue
        divisions = [size for size in _divisions(job, data * context) if trains or size == job.parallel.expert]
        for expert, sequence, recompute, micro_batch in product(divisions, switches, switches, batches):
            if (sequence and tensor == 1) or (job.training and not job.training.takes(micro_batch, data)):
                continue
            if trains and tensor > 1 and not sequence and any(shape.num_experts for shape in job.shapes):
                continue
            sizes = {"processes": processes, "tensor": tensor, "pipeline": pipeline, "context": context}
            sizes |= {"expert": expert, "sequence": sequence, "recompute": recompute}
            yield job.parallel.model_copy(update=sizes), micro_batch


def _divides(job: JobEstimate, tensor: int) -> bool:
    axes = ("num_attention_heads", "num_query_groups", "ffn_hidden_size", "vocab_size")
    return all((getattr(shape, axis) or 0) % tensor == 0 for shape in job.shapes for axis in axes)


def _divisions(job: JobEstimate, ranks: int) -> list[int]:
    """Numbers of expert-parallel ranks, out of `ranks`, that divide the experts of every model; 1 where one is
    dense."""
    experts = math.gcd(ranks, *(shape.num_experts or 1 for shape in job.shapes))
    return [size for size in (2**doubled for doubled in range(experts.bit_length())) if experts % size == 0]


def _cost(job: JobEstimate, parallel: Parallel, micro_batch: int) -> int:
    cost = COSTS["micro_batch"] * _doublings(micro_batch, job.micro_batch)
    for name in ("processes", "tensor", "pipeline", "context", "expert"):
        cost += COSTS[name] * _doublings(getattr(parallel, name), getattr(job.parallel, name))
    return cost + sum(
        COSTS[name] for name in ("sequence", "recompute") if getattr(parallel, name) != getattr(job.parallel, name)
    )


def _doublings(one: int, other: int) -> int:
    """0 for equal sizes, else one for the change and one for each halving or doubling between them."""
    larger, smaller = max(one, other), min(one, other)
    return (larger // smaller).bit_length() - (larger == smaller)
