"""Peak memory of one rank of a Megatron job by cause, in bytes: pure functions of dimensions, batches and layout.

They model jobs/megatron tensor by tensor: DDP with fp32 gradient buffers, what optimizer.py says, what passes.py says
of activations and of the fused head that never holds full logits. tests/jobs/test_memory.py measures all of it on the
CPU."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from conf.estimate import capping, heads, optimizer, passes, teacher_weights
from conf.estimate.passes import Device, ForwardPass
from conf.parallel import Parallel
from conf.shape import Shape, biases, expert_matrices, layer_matrices, norms, num_params, router

if TYPE_CHECKING:
    from conf.stages.training import Training

LIBRARIES = 600_000_000
"""Resident bytes of a CPU process without a model: torch, Megatron-Core, ModelOpt, transformers (measured)."""

CUDA_CONTEXT = 2_500_000_000
"""GPU memory besides tensors: the CUDA context, workspaces of NCCL and cuBLAS, rounding of the allocator. An
allowance."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one rank by cause. `other` is everything besides the model's tensors: the process or CUDA context,
    temporaries of an optimizer step if larger than the activations, models loaded for evaluations during training."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    teacher: int = 0
    logits: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """Sum over all causes."""
        return sum(getattr(self, cause) for cause in CAUSES)


CAUSES = tuple(cause.name for cause in fields(Memory))


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Bytes of main memory that GPU training needs: for the checkpoint being written, of which each of `processes`
    ranks copies its share, and on every rank for the best weights so far if they are kept."""

    checkpoint: int = 0
    best: int = 0
    processes: int = 1

    def of(self, ranks: int) -> int:
        """Bytes on a node with `ranks` of the ranks, libraries included."""
        shares = -(-self.checkpoint * min(ranks, self.processes) // self.processes)
        return shares + ranks * (self.best + LIBRARIES)


def copies(shape: Shape, config: Training) -> Copies:
    """Copies that jobs/megatron/checkpoint.py and early_stopping.py keep of a model of `shape`."""
    params = num_params(shape) + heads.params(shape, config)
    checkpoint = optimizer.in_checkpoint(shape, config)
    if getattr(config, "keep", "last") == "last":
        return Copies(checkpoint=checkpoint, processes=config.parallel.processes)
    split = config.parallel.tensor * config.parallel.pipeline
    held = params - shape.num_layers * _elsewhere(shape, config.parallel)
    best = passes.BYTES[config.precision] * held // split
    return Copies(checkpoint=checkpoint + 4 * params, best=best, processes=config.parallel.processes)


def stages_of(parallel: Parallel) -> tuple[int, ...]:
    """The pipeline stages that may need the most memory: the first, with the most micro-batches in flight, and the
    last, with the head."""
    return (0,) if parallel.pipeline == 1 else (0, parallel.pipeline - 1)


def rank_params(shape: Shape, parallel: Parallel, stage: int) -> int:
    """Parameters on one rank of a pipeline stage; matrices and biases are split over the tensor-parallel ranks,
    norms and routers are not, and experts over the expert-parallel ranks too."""
    last = parallel.pipeline - 1
    split = layer_matrices(shape) + biases(shape) - _elsewhere(shape, parallel)
    layers = shape.num_layers // parallel.pipeline * (split // parallel.tensor + norms(shape) + router(shape))
    rows = (shape.vocab_size or 0) * shape.hidden_size // parallel.tensor
    embedding = rows if stage == 0 else 0
    output = rows if stage == last and not (shape.tie_word_embeddings and stage == 0) else 0
    return layers + embedding + output + (shape.hidden_size if stage == last else 0)


def _elsewhere(shape: Shape, parallel: Parallel) -> int:
    """Parameters of a layer's experts that expert-parallel ranks hold other than this one."""
    return expert_matrices(shape) - expert_matrices(shape) // parallel.expert


def training(shape: Shape, config: Training, device: Device, teacher: Shape | None = None) -> Memory:
    """Memory of the fullest rank of a training job; `teacher` is loaded too for online distillation."""
    return max(
        (_training(shape, config, device, teacher, stage) for stage in stages_of(config.parallel)),
        key=lambda memory: memory.total,
    )


def _training(shape: Shape, config: Training, device: Device, teacher: Shape | None, stage: int) -> Memory:
    parallel, batch = config.parallel, passes.batch_of(config, config.micro_batch, device)
    params = rank_params(shape, parallel, stage) + heads.params(shape, config, parallel.tensor)
    layers = shape.num_layers // parallel.pipeline
    flying = min(
        parallel.pipeline - stage, config.global_batch // (config.micro_batch * parallel.data)
    )  # one forward, one backward (1F1B)
    layer, stream = passes.layer_bytes(shape, batch, parallel), passes.stream_bytes(shape, batch, parallel)
    stored = flying * layers * (stream if parallel.recompute else layer)
    working = passes.backward_bytes(shape, batch, parallel) + (layer if parallel.recompute else 0)
    head = 0
    if stage == parallel.pipeline - 1:
        head = passes.head_bytes(shape, batch, parallel, compared=teacher is not None)
        head += heads.output_bytes(shape, batch, parallel, config)
        stored += heads.activations(shape, batch, parallel, config)
        stored += int(
            config.micro_batch
            * config.seq_length
            // parallel.context
            * passes.norm_bytes(shape.hidden_size, batch, output=False)
        )
    teacher_bytes = taught = 0
    if teacher:
        fp8 = getattr(config, "teacher_weights", "full") == "fp8"
        teacher_bytes = batch.bytes * rank_params(teacher, parallel, stage) + 2 * passes.stream_bytes(
            teacher, batch, parallel
        )
        teacher_bytes -= teacher_weights.saved(teacher, batch, parallel) if fp8 else 0
        taught = passes.forward_bytes(teacher, batch, parallel)
        taught += teacher_weights.widened(teacher, batch, parallel) if fp8 else 0
        if flying > 1:  # otherwise the teacher's pass ends before the student saves activations
            working = max(working, taught)
    activations = max(stored + max(0, working - head), taught - head)
    stepping = optimizer.stepping(params, shape, config, foreach=device == "cuda")
    return Memory(
        weights=batch.bytes * params,
        gradients=4 * params,
        optimizer=optimizer.held(params, shape, config),
        activations=activations,
        teacher=teacher_bytes,
        logits=head,
        other=max(0, stepping - activations - head) + resident(device),
    )


def resident(device: Device) -> int:
    """Bytes of a process before any tensor."""
    return LIBRARIES if device == "cpu" else CUDA_CONTEXT


def passing(shape: Shape, batch: ForwardPass, parallel: Parallel, *, models: int = 1, hooked: bool = False) -> Memory:
    """Memory of the fullest rank of a job with forward passes of `models` models of this shape and full logits.
    `hooked`: Minitron's hooks copy activations to fp32, and no logits are computed."""
    params = max(rank_params(shape, parallel, stage) for stage in stages_of(parallel))
    tokens = batch.sequences * batch.seq_length
    hook_copies = int(8 * tokens * shape.ffn_hidden_size * passes.busiest(shape)) // parallel.tensor if hooked else 0
    return Memory(
        weights=models * batch.bytes * params,
        activations=passes.forward_bytes(shape, batch, parallel) + hook_copies,
        logits=0 if hooked else 2 * batch.bytes * tokens * (shape.vocab_size or 0) // parallel.tensor,
        other=resident(batch.device),
    )


def storing(shape: Shape, batch: ForwardPass, parallel: Parallel, *, fp8: bool = False) -> Memory:
    """Memory of the fullest rank of a job that stores a teacher's top-K logits, computed in groups; `fp8`: the matrices
    of its layers are held so."""
    memory = passing(shape, batch, parallel)
    if fp8:
        weights = memory.weights - teacher_weights.saved(shape, batch, parallel)
        activations = memory.activations + teacher_weights.widened(shape, batch, parallel)
        memory = replace(memory, weights=weights, activations=activations)
    rows, tokens = max(1, (shape.vocab_size or 0) // parallel.tensor), batch.sequences * batch.seq_length
    group = min(tokens, passes.GROUP_TOKENS, max(1, passes.GROUP_ELEMENTS // rows))
    chunk = min(group, max(1, passes.CHUNK_ELEMENTS[batch.device] // rows))
    return replace(memory, logits=rows * (batch.bytes * group + 4 * passes.CHUNK_COPIES[False] * chunk))


def scoring(shape: Shape, params: int, batch: ForwardPass) -> Memory:
    """Memory of one process that scores a Hugging Face model and its teacher (`params`: both together), with logits in
    fp32."""
    alone, tokens = Parallel(), batch.sequences * batch.seq_length
    model_params = rank_params(shape, alone, 0)
    return Memory(
        weights=batch.bytes * model_params,
        activations=passes.forward_bytes(shape, batch, alone) + capping.whole_bytes(shape, batch),
        teacher=batch.bytes * (params - model_params),
        logits=4 * tokens * (shape.vocab_size or 0),
        other=resident(batch.device),
    )


def added(one: Memory, other: Memory) -> Memory:
    """Memory of two workloads in one process, whose overhead counts once; the second one is added to `other`."""
    return replace(one, other=one.other + other.total - min(one.other, other.other))
