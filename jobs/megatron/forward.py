"""One forward pass of a model through Megatron's schedule, pipeline stages included, for jobs that measure without
training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func


def forward(
    model: Any,
    tokens: torch.Tensor,
    receive: Callable[[torch.Tensor], object] | None = None,
    *,
    positions: torch.Tensor | None = None,
    packed: Any = None,
) -> None:
    """Run `tokens` [sequences, length] through `model`; on the last pipeline stage `receive` gets its output
    [sequences, length, ...].

    `positions`, of the same shape, and `packed` (Megatron's PackedSeqParams) are for one sequence that holds several
    samples."""
    device = torch.cuda.current_device()

    def step(batches: Iterator[torch.Tensor], model: Any) -> tuple[torch.Tensor, Any]:
        inputs = next(batches).contiguous().to(device)

        def loss(output: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
            if receive:
                receive(output)
            return output.new_zeros(()), {}

        position_ids = torch.arange(inputs.shape[1]) if positions is None else positions
        return model(inputs, position_ids.to(device).expand_as(inputs), None, packed_seq_params=packed), loss

    get_forward_backward_func()(
        forward_step_func=step,
        data_iterator=iter([tokens]),
        model=model,
        num_microbatches=1,
        seq_length=tokens.shape[1],
        micro_batch_size=len(tokens),
        forward_only=True,
    )
