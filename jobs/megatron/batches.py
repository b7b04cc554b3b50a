"""The micro-batches of this rank, cut from a global batch of sequences, and the mean of their losses over all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from numpy.typing import NDArray

from conf.stages.training import Training
from jobs.megatron.attention import pack_params
from jobs.megatron.fused_loss import Losses
from jobs.tokens import documents
from jobs.tokens.windows import Samples


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch on this rank's device; all [micro_batch, seq_length]."""

    addresses: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    """fp32: the factor on each label's loss, such that the mean over micro-batches and replicas of the weighted sums is
    the mean over the counted labels of the whole global batch."""
    positions: torch.Tensor
    packed: PackedSeqParams | None = None
    """Bounds of the samples, where rows are packed: the model is then given its rows end to end, as one of micro_batch
    x seq_length."""
    later: tuple[torch.Tensor, ...] = ()
    """Where rows are packed, as `weights`, of each head for multi-token prediction: on the label as many inputs later
    as its number, which must be of the same sample."""


def micro_batches(samples: Samples, config: Training) -> list[Batch]:
    """This replica's micro-batches of a global batch."""
    tokens = samples.tokens
    counted = np.ones(tokens[:, 1:].shape, dtype=np.bool_) if samples.counted is None else samples.counted
    passes = len(tokens) // config.micro_batch  # of all replicas
    positions = (
        np.broadcast_to(np.arange(tokens.shape[1] - 1), counted.shape)
        if samples.positions is None
        else samples.positions
    )

    def local(array: NDArray[Any]) -> torch.Tensor:
        parts = array.reshape(-1, config.parallel.data, config.micro_batch, *array.shape[1:])
        part = np.ascontiguousarray(parts[:, parallel_state.get_data_parallel_rank()])
        return torch.from_numpy(part).to(torch.cuda.current_device())

    def weighed(counted: NDArray[np.bool_]) -> NDArray[np.float32]:
        return counted * np.float32(passes / max(1, counted.sum()))

    heads = config.mtp.heads if samples.segments is not None and getattr(config, "mtp", None) else 0  # type: ignore[attr-defined]
    later = [local(weighed(documents.later_targets(samples, number))) for number in range(1, heads + 1)]
    arrays = (samples.addresses, tokens[:, :-1], tokens[:, 1:], weighed(counted), positions)
    names = ("addresses", "tokens", "labels", "weights", "positions")
    columns = [local(array) for array in arrays]
    bounds = (
        [None] * len(columns[0])
        if samples.segments is None
        else [pack_params(part) for part in local(samples.segments)]
    )
    # This context-parallel rank's part of each sequence.
    return [
        Batch(
            **{name: of_this_rank(part) for name, part in zip(names, parts, strict=True)},
            packed=sample_bounds,
            later=tuple(each[number] for each in later),
        )
        for number, (*parts, sample_bounds) in enumerate(zip(*columns, bounds, strict=True))
    ]


def of_this_rank(sequences: torch.Tensor) -> torch.Tensor:
    """This context-parallel rank's chunks of `sequences` [sequences, length, ...]: of 2C chunks, the r-th from either
    end, so that all ranks attend to equally much. Megatron's own function for it takes other arguments since 0.18, and
    without them cuts over all ranks."""
    size, rank = parallel_state.get_context_parallel_world_size(), parallel_state.get_context_parallel_rank()
    if size == 1:
        return sequences
    chunks = sequences.chunk(2 * size, dim=1)
    return torch.cat([chunks[rank], chunks[2 * size - 1 - rank]], dim=1)


def mean_over_ranks(micro_batch_losses: list[Losses]) -> dict[str, float]:
    """Mean of the micro-batches' losses over data-parallel replicas, known on every rank; only last pipeline stages
    have any."""
    box = [sorted(micro_batch_losses[0])] if micro_batch_losses else [None]
    source = torch.distributed.get_world_size() - 1  # the last stage: pipeline ranks are outermost
    torch.distributed.broadcast_object_list(box, src=source)
    names: list[str] = box[0]  # type: ignore[assignment]
    means = [
        torch.stack([losses[name].float() for losses in micro_batch_losses]).mean().item()
        if micro_batch_losses
        else 0.0
        for name in names
    ]
    sums = torch.tensor(
        [*means, 1.0 if micro_batch_losses else 0.0], dtype=torch.float64, device=torch.cuda.current_device()
    )
    torch.distributed.all_reduce(sums)
    context_parallel_size = (
        parallel_state.get_context_parallel_world_size()
    )  # the sums of these ranks, not their means, make a sequence's loss
    return {name: (sums[position] / sums[-1] * context_parallel_size).item() for position, name in enumerate(names)}
