"""Parameters, FLOPs and activations of heads for multi-token prediction beside a model (jobs/megatron/mtp.py).

Each is a layer, a projection from twice the width, and three norms; embedding and output are the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conf.estimate import passes
from conf.estimate.passes import ForwardPass
from conf.parallel import Parallel
from conf.shape import Shape, biases, head_dim, layer_matrices, norms

if TYPE_CHECKING:
    from conf.stages.training import Training


def count(config: Training) -> int:
    """Heads that `config` trains."""
    mtp = getattr(config, "mtp", None)
    return mtp.heads if mtp else 0


def params(shape: Shape, config: Training, tensor: int = 1) -> int:
    """Parameters of all heads on one of `tensor` ranks; projections and norms are whole on each."""
    split = layer_matrices(shape) + biases(shape)
    return count(config) * (split // tensor + norms(shape) + projection(shape) + 3 * shape.hidden_size)


def projection(shape: Shape) -> int:
    """Parameters of one head's projection."""
    return 2 * shape.hidden_size**2


def matrices(shape: Shape, config: Training, tensor: int = 1) -> int:
    """Parameters of the heads' matrices on one rank, which Muon steps."""
    return count(config) * (layer_matrices(shape) // tensor + projection(shape))


def forward_flops(shape: Shape, seq_length: int, config: Training) -> float:
    """FLOPs per token of the heads' forward pass, the shared output included."""
    layer = 2 * layer_matrices(shape) + 2 * seq_length * shape.num_attention_heads * head_dim(shape)
    output = 2 * shape.hidden_size * (shape.vocab_size or 0)
    return count(config) * (layer + 2 * projection(shape) + output)


def activations(shape: Shape, batch: ForwardPass, parallel: Parallel, config: Training) -> int:
    """Bytes that the heads' backward pass needs of one micro-batch: their layers, what their three norms save, and the
    projection's input. They see all tokens, also under sequence parallelism, and nothing is recomputed."""
    whole = parallel.model_copy(update={"sequence": False})
    around = 3 * passes.norm_bytes(shape.hidden_size, batch) + 2 * batch.bytes * shape.hidden_size
    tokens = batch.sequences * batch.seq_length
    return count(config) * (passes.layer_bytes(shape, batch, whole) + int(tokens * around))


def output_bytes(shape: Shape, batch: ForwardPass, parallel: Parallel, config: Training) -> int:
    """Bytes that the heads' losses keep until the backward pass: gradients of their states and, each, of the output."""
    rows = (shape.vocab_size or 0) // parallel.tensor
    states = batch.bytes * batch.sequences * batch.seq_length * shape.hidden_size
    return count(config) * (states + 4 * rows * shape.hidden_size)
