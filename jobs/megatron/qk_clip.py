"""MuonClip's bound on attention logits (Kimi K2, arXiv 2507.20534, section 2.1): where the largest logit of a head
passes a threshold, its query and key weights are scaled so that it would not have.

Heads that share a key go together, by the largest of them, as in Megatron-LM's `clip_qk`. The largest logits are those
of the step's own forward pass; neither PyTorch's nor Transformer Engine's fused attention gives them out, so they are
computed beside it, a chunk of queries at a time."""

from __future__ import annotations

from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.utils import is_layer_window_attention

from jobs.megatron.capping import CHUNK_ELEMENTS
from jobs.megatron.optimizer import master


class LogitBound:
    """Watches the attention of one training run of `model`, and bounds its logits to `threshold`."""

    def __init__(self, model: GPTModel, threshold: float) -> None:
        self.threshold, self.layers = threshold, list(model.decoder.layers)
        self._largest: dict[int, torch.Tensor] = {}
        config = model.config
        scale = config.kv_channels**-0.5 if config.softmax_scale is None else config.softmax_scale
        for place, layer in enumerate(self.layers):
            windowed = is_layer_window_attention(config.window_size, config.window_attn_skip_freq, layer.layer_number)
            window = config.window_size[0] + 1 if windowed else None
            layer.self_attention.core_attention.register_forward_pre_hook(self._watch(place, scale, window))

    def _watch(self, place: int, scale: float, window: int | None) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...]) -> None:
            if module.training:
                found = largest(inputs[0].detach(), inputs[1].detach(), scale, window)
                self._largest[place] = torch.maximum(self._largest.get(place, found), found)

        return hook

    def forget(self) -> None:
        """Forget what was seen, before a step; one that was left out may have left something."""
        self._largest = {}

    @torch.no_grad()
    def apply(self) -> dict[str, float]:
        """After an optimizer step, scale the weights of groups whose largest logit passed the threshold; collective.
        Returns the largest logit of all, and how many groups were scaled."""
        found = torch.stack([self._largest[place] for place in range(len(self.layers))])
        torch.distributed.all_reduce(
            found, op=torch.distributed.ReduceOp.MAX, group=parallel_state.get_data_parallel_group()
        )
        for layer, logits in zip(self.layers, found, strict=True):
            factors = (self.threshold / logits).clamp(max=1.0).sqrt() * (logits > 0) + (logits <= 0)
            if bool((factors < 1).any()):
                _scale(layer.self_attention, factors)
        self.forget()
        ranks = parallel_state.get_model_parallel_group()
        most, count = found.max(), (found > self.threshold).sum().float()
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX, group=ranks)
        torch.distributed.all_reduce(count, group=ranks)
        return {"max_attention_logit": float(most), "clipped_groups": float(count)}


@torch.no_grad()
def largest(query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None) -> torch.Tensor:
    """The largest causal attention logit of each query group [groups], of query [length, batch, heads, width] and key
    [length, batch, groups, width]."""
    length, batch, heads, _ = query.shape
    grouped = query.float().permute(1, 2, 0, 3).unflatten(1, (key.shape[2], -1))
    keys = key.float().permute(1, 2, 3, 0)[:, :, None]
    size = max(1, CHUNK_ELEMENTS[query.device.type] // (batch * heads * length))
    places = torch.arange(length, device=query.device)
    found = torch.full((key.shape[2],), -torch.inf, device=query.device)
    for start in range(0, length, size):
        rows = places[start : start + size, None]
        hidden = places[None, : start + size] > rows
        if window is not None:
            hidden |= places[None, : start + size] <= rows - window
        scores = grouped[..., start : start + size, :] @ keys[..., : start + size] * scale
        found = torch.maximum(found, scores.masked_fill(hidden, -torch.inf).amax(dim=(0, 2, 3, 4)))
    return found


def _scale(attention: Any, factors: torch.Tensor) -> None:
    """Scale the queries and the key of each group in weights and biases, which Megatron packs as [its queries, key,
    value] in rows."""
    width = attention.config.kv_channels
    queries = attention.num_attention_heads_per_partition // attention.num_query_groups_per_partition
    for parameter in (attention.linear_qkv.weight, attention.linear_qkv.bias):
        if parameter is None or parameter.numel() == 0:
            continue
        stepped = master(parameter)
        packed = stepped.view(len(factors), (queries + 2) * width, -1)
        packed[:, : (queries + 1) * width] *= factors[:, None, None].to(packed.dtype)
        if stepped is not parameter:
            parameter.copy_(stepped)
