"""Bytes that one rank of a Megatron job holds at its peak, by cause: pure functions of dimensions, batches and layout.

They model what jobs/megatron does, tensor by tensor: DDP with fp32 gradient buffers, Adam with fp32 master weights and
two moments (nothing of them sharded), the fused head that never holds whole logits, unfused SwiGLU layers with
PyTorch's attention. Activations are counted as in Korthikanti et al. 2022 (arXiv 2205.05198, section 4), per token and
layer, for these layers instead of GPT's: a decoder layer keeps the inputs of its norms and of its matrices, queries,
keys and values, and what the gate and its product are made of. tests/test_memory.py measures all of it on the CPU; what
differs on a GPU (norms and attention stay bf16) follows PyTorch's kernels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, Protocol

from conf.base import Precision
from conf.parallel import Parallel
from conf.shape import Shape, head_dim

if TYPE_CHECKING:
    from conf.stages.training import Training

Device = Literal["cpu", "cuda"]
BYTES = {"bf16": 2, "fp32": 4}

GROUP_ELEMENTS, GROUP_TOKENS = 2**26, 1024
"""Logits of one model computed at once by the fused head, at most: the matrix products want many rows, and 2**26 in
bf16 are 134 MB."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a group made fp32 at once: on the CPU few enough that the copies stay in the cache."""

CHUNK_COPIES = {False: 2, True: 4}
"""fp32 tensors of a chunk's size that a loss holds at once, without and with a teacher's logits to compare with."""

CHECKPOINT_BYTES = 12
"""Of a training checkpoint, a parameter: fp32 weights and two moments."""

LIBRARIES = 600_000_000
"""Resident bytes of a CPU process that holds no model yet: torch, Megatron-Core, ModelOpt, transformers (measured)."""

CUDA_CONTEXT = 2_500_000_000
"""What a GPU holds beside tensors: the CUDA context, NCCL's and cuBLAS's workspaces, the allocator's rounding. An
allowance."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one rank, by cause. `other` is what no tensor of the model is: the process or CUDA context, an optimizer
    step's temporaries where they are larger than the activations, models loaded to evaluate on the way."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    teacher: int = 0
    logits: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All causes together."""
        return sum(getattr(self, cause) for cause in CAUSES)


CAUSES = tuple(cause.name for cause in fields(Memory))


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Bytes of main memory that training holds beside GPUs: on rank 0 the checkpoint that is being written, on every
    rank the best weights so far, where they are kept."""

    checkpoint: int = 0
    best: int = 0

    def of(self, ranks: int) -> int:
        """What a node with `ranks` ranks holds, rank 0 among them; its libraries too."""
        return self.checkpoint + ranks * (self.best + LIBRARIES)


def copies(params: int, config: Training) -> Copies:
    """What jobs/megatron/checkpoint.py and watch.py keep of a model of so many parameters, until the next checkpoint
    and the next best."""
    if getattr(config, "keep", "last") == "last":
        return Copies(checkpoint=CHECKPOINT_BYTES * params)
    split = config.parallel.tensor * config.parallel.pipeline
    return Copies(checkpoint=(CHECKPOINT_BYTES + 4) * params, best=BYTES[config.precision] * params // split)


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """What one forward pass of one rank is given: sequences and their length, in which precision, on which device."""

    sequences: int
    seq_length: int
    precision: Precision
    device: Device

    @property
    def bytes(self) -> int:
        """Of one number."""
        return BYTES[self.precision]

    @property
    def exact(self) -> int:
        """Of one number where the CPU computes in fp32 what a GPU leaves as it is: norms and attention."""
        return 4 if self.device == "cpu" else self.bytes


class Passing(Protocol):
    """Settings of a stage that runs a model forward."""

    @property
    def seq_length(self) -> int: ...
    @property
    def precision(self) -> Precision: ...


def batch_of(config: Passing, sequences: int, device: Device) -> ForwardPass:
    """So many sequences of a stage, passed at once."""
    return ForwardPass(sequences=sequences, seq_length=config.seq_length, precision=config.precision, device=device)


def stages_of(parallel: Parallel) -> tuple[int, ...]:
    """The pipeline stages that may be the fullest: the first, which holds most micro-batches, and the last, which holds
    the head."""
    return (0,) if parallel.pipeline == 1 else (0, parallel.pipeline - 1)


def rank_params(shape: Shape, parallel: Parallel, stage: int) -> int:
    """Parameters on one rank of a pipeline stage: matrices are split over the tensor-parallel ranks, norms are not."""
    head, last = head_dim(shape), parallel.pipeline - 1
    matrices = shape.hidden_size * head * 2 * (shape.num_attention_heads + shape.num_query_groups)
    matrices += 3 * shape.hidden_size * shape.ffn_hidden_size
    norms = 2 * shape.hidden_size + (2 * head if shape.architecture == "qwen3" else 0)
    layers = shape.num_layers // parallel.pipeline * (matrices // parallel.tensor + norms)
    rows = (shape.vocab_size or 0) * shape.hidden_size // parallel.tensor
    embedding = rows if stage == 0 else 0
    output = rows if stage == last and not (shape.tie_word_embeddings and stage == 0) else 0
    return layers + embedding + output + (shape.hidden_size if stage == last else 0)


def layer_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """What the backward pass of one decoder layer needs of one micro-batch."""
    tokens, wide, exact = batch.sequences * batch.seq_length // parallel.context, batch.bytes, batch.exact
    shared = parallel.tensor if parallel.sequence else 1
    return int(
        tokens * (2 * _norm(shape.hidden_size, batch) / shared)
        + tokens * (_attention(shape, batch) + 5 * wide * shape.ffn_hidden_size) / parallel.tensor
        + (4 * wide * head_dim(shape) * batch.seq_length if exact else 0)  # rotary tables
    )


def _norm(width: int, batch: ForwardPass, output: bool = True) -> float:
    """A norm's input, on the CPU in fp32 with its normalised form, one number a row, and the output that a matrix
    multiplies."""
    saved = 4 * 2 * width if batch.device == "cpu" else batch.bytes * width
    return saved + 4 + (batch.bytes * width if output else 0)


def _attention(shape: Shape, batch: ForwardPass) -> float:
    """Queries, keys, values and the context of PyTorch's fused attention, one number a head, and what norms on them
    keep."""
    heads, groups, width = shape.num_attention_heads, shape.num_query_groups, head_dim(shape)
    kept = batch.exact * width * (2 * heads + 2 * groups) + 4 * heads
    if batch.exact != batch.bytes:
        kept += batch.bytes * width * heads  # the context once more in bf16, for the output matrix
    else:
        kept += (
            batch.bytes * width * (heads + groups)
        )  # values are a view of the joint matrix's output, which they keep whole
    if shape.architecture == "qwen3":
        if batch.device == "cpu":
            kept += 8 * width * (heads + groups) + 4 * (heads + groups)
        else:
            kept += batch.bytes * width * heads + 4 * (heads + groups)
    return kept


def training(shape: Shape, config: Training, device: Device, teacher: Shape | None = None) -> Memory:
    """The fullest rank of a training job; `teacher` runs beside the student where logits are compared online."""
    return max(
        (_training(shape, config, device, teacher, stage) for stage in stages_of(config.parallel)),
        key=lambda memory: memory.total,
    )


def _training(shape: Shape, config: Training, device: Device, teacher: Shape | None, stage: int) -> Memory:
    parallel, batch = config.parallel, batch_of(config, config.micro_batch, device)
    params, layers = rank_params(shape, parallel, stage), shape.num_layers // parallel.pipeline
    flying = min(
        parallel.pipeline - stage, config.global_batch // (config.micro_batch * parallel.data)
    )  # one forward, one backward (1F1B)
    layer, stream = layer_bytes(shape, batch, parallel), stream_bytes(shape, batch, parallel)
    stored = flying * layers * (stream if parallel.recompute else layer)
    working = backward_bytes(shape, batch, parallel) + (layer if parallel.recompute else 0)
    head = 0
    if stage == parallel.pipeline - 1:
        head = head_bytes(shape, batch, parallel, compared=teacher is not None)
        stored += int(
            config.micro_batch * config.seq_length // parallel.context * _norm(shape.hidden_size, batch, output=False)
        )
    taught = 0
    if teacher:
        taught = batch.bytes * rank_params(teacher, parallel, stage) + 2 * stream_bytes(teacher, batch, parallel)
        if flying > 1:  # else it is done before the student keeps anything
            working = max(working, forward_bytes(teacher, batch, parallel))
    activations = stored + max(0, working - head)
    stepping = (
        4 * params if device == "cuda" else 0
    )  # torch's foreach Adam takes the roots of all second moments at once
    return Memory(
        weights=batch.bytes * params,
        gradients=4 * params,
        optimizer=(12 if config.precision == "bf16" else 8) * params,
        activations=activations,
        teacher=taught,
        logits=head,
        other=max(0, stepping - activations - head) + resident(device),
    )


def resident(device: Device) -> int:
    """What a process holds before any tensor."""
    return LIBRARIES if device == "cpu" else CUDA_CONTEXT


def stream_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """The residual stream of one micro-batch, which recomputation keeps of a layer."""
    shared = parallel.context * (parallel.tensor if parallel.sequence else 1)
    return batch.bytes * batch.sequences * batch.seq_length * shape.hidden_size // shared


def backward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """What the backward pass of a layer holds beside what was kept for it: gradients around its gate, its attention or
    its norms."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = 2 * batch.bytes * shape.ffn_hidden_size / parallel.tensor
    attention = (
        2 * batch.exact * head_dim(shape) * (shape.num_attention_heads + shape.num_query_groups) / parallel.tensor
    )
    norms = 2 * (4 if batch.device == "cpu" else batch.bytes) * shape.hidden_size
    return int(tokens * (max(gate, attention, norms) + batch.bytes * shape.hidden_size))


def forward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """What a forward pass without gradients holds at once: the widest of a layer's steps and the residual stream."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = batch.bytes * 5 * shape.ffn_hidden_size // parallel.tensor
    heads = 2 * shape.num_attention_heads + 2 * shape.num_query_groups
    attention = 2 * batch.exact * head_dim(shape) * heads // parallel.tensor
    return int(tokens * (max(gate, attention) + 2 * batch.bytes * shape.hidden_size))


def head_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel, *, compared: bool) -> int:
    """The fused head: hidden states and their gradient, the output weights' gradient, a group's logits and a chunk of
    them in fp32."""
    tokens, rows = batch.sequences * batch.seq_length // parallel.context, (shape.vocab_size or 0) // parallel.tensor
    if not rows:
        return 0
    group = min(tokens, GROUP_TOKENS, max(1, GROUP_ELEMENTS // rows))
    chunk = min(group, max(1, CHUNK_ELEMENTS[batch.device] // rows))
    gradient = (4 + (batch.bytes if batch.precision == "bf16" else 0)) * rows * shape.hidden_size
    states = 2 * batch.bytes * tokens * shape.hidden_size
    return (
        states + gradient + rows * ((2 if compared else 1) * batch.bytes * group + 4 * CHUNK_COPIES[compared] * chunk)
    )


def passing(shape: Shape, batch: ForwardPass, parallel: Parallel, *, models: int = 1, hooked: bool = False) -> Memory:
    """The fullest rank of a job that runs `models` models of this shape forward only, its logits whole; `hooked`:
    Minitron looks at what every layer does, in fp32, and nobody at the logits, which are not made."""
    params = max(rank_params(shape, parallel, stage) for stage in stages_of(parallel))
    tokens = batch.sequences * batch.seq_length
    looked_at = 8 * tokens * shape.ffn_hidden_size // parallel.tensor if hooked else 0
    return Memory(
        weights=models * batch.bytes * params,
        activations=forward_bytes(shape, batch, parallel) + looked_at,
        logits=0 if hooked else 2 * batch.bytes * tokens * (shape.vocab_size or 0) // parallel.tensor,
        other=resident(batch.device),
    )


def storing(shape: Shape, batch: ForwardPass, parallel: Parallel) -> Memory:
    """The fullest rank of a job that stores a teacher's likeliest tokens: its logits a group at a time."""
    memory = passing(shape, batch, parallel)
    rows, tokens = max(1, (shape.vocab_size or 0) // parallel.tensor), batch.sequences * batch.seq_length
    group = min(tokens, GROUP_TOKENS, max(1, GROUP_ELEMENTS // rows))
    chunk = min(group, max(1, CHUNK_ELEMENTS[batch.device] // rows))
    return replace(memory, logits=rows * (batch.bytes * group + 4 * CHUNK_COPIES[False] * chunk))


def scoring(shape: Shape, params: int, batch: ForwardPass) -> Memory:
    """One process that scores a Hugging Face model beside its teacher, `params` together; a sequence's logits in
    fp32."""
    alone, tokens = Parallel(), batch.sequences * batch.seq_length
    own = rank_params(shape, alone, 0)
    return Memory(
        weights=batch.bytes * own,
        activations=forward_bytes(shape, batch, alone),
        teacher=batch.bytes * (params - own),
        logits=4 * tokens * (shape.vocab_size or 0),
        other=resident(batch.device),
    )


def added(one: Memory, other: Memory) -> Memory:
    """Two models' worth of memory in one process, whose own weight counts once; what the second takes is `other`."""
    return replace(one, other=one.other + other.total - min(one.other, other.other))
