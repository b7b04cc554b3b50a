"""Peak memory of one rank of a Megatron job by cause, in bytes: pure functions of dimensions, batches and layout.

They model jobs/megatron tensor by tensor: DDP with fp32 gradient buffers, what optimizer.py says, the fused head that
never holds full logits, unfused SwiGLU layers with PyTorch's attention. Activations are counted as in Korthikanti et
al. 2022 (arXiv 2205.05198, section 4), per token and layer, for these layers instead of GPT's: a decoder layer keeps
the inputs of its norms and matrices, queries, keys and values, and the operands of the gate and its product.
tests/jobs/test_memory.py measures all of it on the CPU; differences on a GPU (norms and attention stay bf16) follow
PyTorch's kernels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, Protocol

from conf.base import Precision
from conf.estimate import optimizer
from conf.parallel import Parallel
from conf.shape import Shape, biases, family, head_dim, layer_matrices, norms, num_params, router

if TYPE_CHECKING:
    from conf.stages.training import Training

Device = Literal["cpu", "cuda"]
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}

GROUP_ELEMENTS, GROUP_TOKENS = 2**26, 1024
"""Maximum logits of one model that the fused head computes at once: matrix products need many rows, and 2**26 in bf16
are 134 MB."""

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a group converted to fp32 at once: on the CPU few enough that the copies stay in the cache."""

CHUNK_COPIES = {False: 2, True: 4}
"""fp32 tensors of a chunk's size that a loss holds at once, without and with a teacher's logits."""

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
    """Bytes of main memory that GPU training needs: on rank 0 the checkpoint being written, on every rank the best
    weights so far if they are kept."""

    checkpoint: int = 0
    best: int = 0

    def of(self, ranks: int) -> int:
        """Bytes on the node of rank 0, with `ranks` ranks, libraries included."""
        return self.checkpoint + ranks * (self.best + LIBRARIES)


def copies(shape: Shape, config: Training) -> Copies:
    """Copies that jobs/megatron/checkpoint.py and early_stopping.py keep of a model of `shape`."""
    params, checkpoint = num_params(shape), optimizer.in_checkpoint(shape, config)
    if getattr(config, "keep", "last") == "last":
        return Copies(checkpoint=checkpoint)
    split = config.parallel.tensor * config.parallel.pipeline
    return Copies(checkpoint=checkpoint + 4 * params, best=BYTES[config.precision] * params // split)


@dataclass(frozen=True, kw_only=True)
class ForwardPass:
    """Input of one forward pass of one rank: number and length of sequences, precision, device."""

    sequences: int
    seq_length: int
    precision: Precision
    device: Device

    @property
    def bytes(self) -> int:
        """Bytes per element."""
        return BYTES[self.precision]

    @property
    def exact(self) -> int:
        """Bytes per element in norms and attention, which the CPU computes in fp32 and a GPU does not."""
        return 4 if self.device == "cpu" else self.bytes


class Passing(Protocol):
    """Settings of a stage with forward passes."""

    @property
    def seq_length(self) -> int: ...
    @property
    def precision(self) -> Precision: ...


def batch_of(config: Passing, sequences: int, device: Device) -> ForwardPass:
    """A forward pass over `sequences` sequences of a stage."""
    return ForwardPass(sequences=sequences, seq_length=config.seq_length, precision=config.precision, device=device)


def stages_of(parallel: Parallel) -> tuple[int, ...]:
    """The pipeline stages that may need the most memory: the first, with the most micro-batches in flight, and the
    last, with the head."""
    return (0,) if parallel.pipeline == 1 else (0, parallel.pipeline - 1)


def rank_params(shape: Shape, parallel: Parallel, stage: int) -> int:
    """Parameters on one rank of a pipeline stage; matrices and biases are split over the tensor-parallel ranks,
    norms and routers are not."""
    last = parallel.pipeline - 1
    split = layer_matrices(shape) + biases(shape)
    layers = shape.num_layers // parallel.pipeline * (split // parallel.tensor + norms(shape) + router(shape))
    rows = (shape.vocab_size or 0) * shape.hidden_size // parallel.tensor
    embedding = rows if stage == 0 else 0
    output = rows if stage == last and not (shape.tie_word_embeddings and stage == 0) else 0
    return layers + embedding + output + (shape.hidden_size if stage == last else 0)


def layer_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Activation bytes that the backward pass of one decoder layer needs for one micro-batch."""
    tokens, wide, exact = batch.sequences * batch.seq_length // parallel.context, batch.bytes, batch.exact
    shared = parallel.tensor if parallel.sequence else 1
    after = 2 if family(shape).sandwiched else 0  # whose outputs are only added to the residual stream
    norms_kept = 2 * _norm(shape.hidden_size, batch) + after * _norm(shape.hidden_size, batch, output=False)
    return int(
        tokens * norms_kept / shared
        + tokens * _attention(shape, batch) / parallel.tensor
        + tokens * _mlp(shape, batch, parallel)
        + (4 * wide * head_dim(shape) * batch.seq_length if exact else 0)  # rotary tables
    )


def _mlp(shape: Shape, batch: ForwardPass, parallel: Parallel) -> float:
    """Bytes per token saved by the gated MLP; by experts, for each that the token takes, also its input, what the
    router's weight multiplies, and where it stands; by the router, the probabilities and choices among all."""
    ffn, wide = shape.ffn_hidden_size / parallel.tensor, batch.bytes
    if shape.num_experts is None or shape.experts_per_token is None:
        return 5 * wide * ffn
    each = 6 * wide * ffn + wide * shape.hidden_size + 24
    return shape.experts_per_token * each + 5 * shape.num_experts


def _busiest(shape: Shape) -> float:
    """Share of the tokens that one MLP computes at once: all, or twice the mean of an expert."""
    if shape.num_experts is None or shape.experts_per_token is None:
        return 1.0
    return min(1.0, 2 * shape.experts_per_token / shape.num_experts)


def _norm(width: int, batch: ForwardPass, output: bool = True) -> float:
    """Bytes per token saved by a norm: its input (on the CPU in fp32, with the normalised input), one number per row,
    and the output."""
    saved = 4 * 2 * width if batch.device == "cpu" else batch.bytes * width
    return saved + 4 + (batch.bytes * width if output else 0)


def _attention(shape: Shape, batch: ForwardPass) -> float:
    """Bytes per token saved by attention: queries, keys, values and context of PyTorch's fused kernel, one number per
    head, and the tensors of norms on queries and keys."""
    heads, groups, width = shape.num_attention_heads, shape.num_query_groups, head_dim(shape)
    saved = batch.exact * width * (2 * heads + 2 * groups) + 4 * heads
    if batch.exact != batch.bytes:
        saved += batch.bytes * width * heads  # the context again in bf16, for the output matrix
    else:
        saved += (
            batch.bytes * width * (heads + groups)
        )  # values are a view of the joint QKV output and keep all of it alive
    if family(shape).qk_norm:
        if batch.device == "cpu":
            saved += 8 * width * (heads + groups) + 4 * (heads + groups)
        else:
            saved += batch.bytes * width * heads + 4 * (heads + groups)
    return saved


def training(shape: Shape, config: Training, device: Device, teacher: Shape | None = None) -> Memory:
    """Memory of the fullest rank of a training job; `teacher` is loaded too for online distillation."""
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
    teacher_bytes = 0
    if teacher:
        teacher_bytes = batch.bytes * rank_params(teacher, parallel, stage) + 2 * stream_bytes(teacher, batch, parallel)
        if flying > 1:  # otherwise the teacher's pass ends before the student saves activations
            working = max(working, forward_bytes(teacher, batch, parallel))
    activations = stored + max(0, working - head)
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


def stream_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Bytes of the residual stream of one micro-batch, which is all that recomputation keeps per layer."""
    shared = parallel.context * (parallel.tensor if parallel.sequence else 1)
    return batch.bytes * batch.sequences * batch.seq_length * shape.hidden_size // shared


def backward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Temporary bytes of a layer's backward pass: gradients around its gate, its attention or its norms."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = 2 * batch.bytes * shape.ffn_hidden_size / parallel.tensor * _busiest(shape)
    gate += 3 * batch.bytes * shape.hidden_size * (shape.experts_per_token or 0)  # the tokens' copies in and out
    attention = (
        2 * batch.exact * head_dim(shape) * (shape.num_attention_heads + shape.num_query_groups) / parallel.tensor
    )
    norms = 2 * (4 if batch.device == "cpu" else batch.bytes) * shape.hidden_size
    return int(tokens * (max(gate, attention, norms) + batch.bytes * shape.hidden_size))


def forward_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel) -> int:
    """Peak bytes of a forward pass without gradients: the widest step of a layer and the residual stream."""
    tokens = batch.sequences * batch.seq_length // parallel.context
    gate = batch.bytes * 5 * shape.ffn_hidden_size / parallel.tensor * _busiest(shape)
    gate += 3 * batch.bytes * shape.hidden_size * (shape.experts_per_token or 0)
    heads = 2 * shape.num_attention_heads + 2 * shape.num_query_groups
    attention = 2 * batch.exact * head_dim(shape) * heads // parallel.tensor
    return int(tokens * (max(gate, attention) + 2 * batch.bytes * shape.hidden_size))


def head_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel, *, compared: bool) -> int:
    """Bytes of the fused head: hidden states and their gradient, the output weights' gradient, a group's logits and a
    chunk of them in fp32."""
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
    """Memory of the fullest rank of a job with forward passes of `models` models of this shape and full logits.
    `hooked`: Minitron's hooks copy activations to fp32, and no logits are computed."""
    params = max(rank_params(shape, parallel, stage) for stage in stages_of(parallel))
    tokens = batch.sequences * batch.seq_length
    hook_copies = int(8 * tokens * shape.ffn_hidden_size * _busiest(shape)) // parallel.tensor if hooked else 0
    return Memory(
        weights=models * batch.bytes * params,
        activations=forward_bytes(shape, batch, parallel) + hook_copies,
        logits=0 if hooked else 2 * batch.bytes * tokens * (shape.vocab_size or 0) // parallel.tensor,
        other=resident(batch.device),
    )


def storing(shape: Shape, batch: ForwardPass, parallel: Parallel) -> Memory:
    """Memory of the fullest rank of a job that stores a teacher's top-K logits, computed in groups."""
    memory = passing(shape, batch, parallel)
    rows, tokens = max(1, (shape.vocab_size or 0) // parallel.tensor), batch.sequences * batch.seq_length
    group = min(tokens, GROUP_TOKENS, max(1, GROUP_ELEMENTS // rows))
    chunk = min(group, max(1, CHUNK_ELEMENTS[batch.device] // rows))
    return replace(memory, logits=rows * (batch.bytes * group + 4 * CHUNK_COPIES[False] * chunk))


def scoring(shape: Shape, params: int, batch: ForwardPass) -> Memory:
    """Memory of one process that scores a Hugging Face model and its teacher (`params`: both together), with logits in
    fp32."""
    alone, tokens = Parallel(), batch.sequences * batch.seq_length
    model_params = rank_params(shape, alone, 0)
    return Memory(
        weights=batch.bytes * model_params,
        activations=forward_bytes(shape, batch, alone),
        teacher=batch.bytes * (params - model_params),
        logits=4 * tokens * (shape.vocab_size or 0),
        other=resident(batch.device),
    )


def added(one: Memory, other: Memory) -> Memory:
    """Memory of two workloads in one process, whose overhead counts once; the second one is added to `other`."""
    return replace(one, other=one.other + other.total - min(one.other, other.other))
