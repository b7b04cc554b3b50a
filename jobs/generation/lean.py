"""One step of a plain Llama-like model in few operations: with a token a row, starting them is most of the time.

Queries, keys and values come of one product, and so do gate and up; queries and keys are rotated together. Other
families, and layers that something was put around (ModelOpt's quantizers, adapters), run as transformers runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from jobs.generation.blocks import Blocks, Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLAIN = ("llama", "mistral", "qwen2", "qwen3")
"""The families that are computed here; others norm, scale, rotate or mix otherwise."""


class Lean:
    """A model's layers. Their matrices become parts of joint ones, so that no weight is kept twice."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model.model
        self.layers = [_Layer(layer) for layer in self.model.layers]
        queries, keys, _ = self.layers[0].heads
        self.scales = torch.ones(queries + keys, 1, device=model.device)
        self.scales[:queries] = self.model.layers[0].self_attn.scaling  # of the scores

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Whether the model is made of what is computed here, and nothing else."""
        if model.config.model_type not in PLAIN:
            return False
        modules = dict(model.model.layers.named_modules())
        matrices = [module for name, module in modules.items() if name.endswith("_proj")]
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in modules.values())
        changed = hooked or any("quantizer" in name for name in modules)
        return not changed and all(type(module) is torch.nn.Linear for module in matrices)

    def __call__(self, tokens: torch.Tensor, at: Step, blocks: Blocks) -> torch.Tensor:
        """The last hidden states [rows, width] after `tokens` [rows]."""
        hidden = self.model.embed_tokens(tokens)
        angles = self.model.rotary_emb(hidden[:, None], position_ids=at.positions[:, None])
        cos, sin = ((part * self.scales).to(hidden.dtype) for part in angles)
        sin = sin[..., : sin.shape[-1] // 2]
        for number, layer in enumerate(self.layers):
            hidden = layer(number, hidden, (cos, sin), at, blocks)
        last: torch.Tensor = self.model.norm(hidden)
        return last


class _Layer:
    def __init__(self, layer: Any) -> None:
        own = layer.self_attn
        self.layer, self.width = layer, own.head_dim
        self.heads = tuple(part.out_features // own.head_dim for part in (own.q_proj, own.k_proj, own.v_proj))
        self.qkv = _joined([own.q_proj, own.k_proj, own.v_proj])
        self.gated = _joined([layer.mlp.gate_proj, layer.mlp.up_proj])
        self.norms = (own.q_norm, own.k_norm) if hasattr(own, "q_norm") else None
        family = own.config.model_type
        self.window = own.config.sliding_window if family == "mistral" else getattr(own, "sliding_window", None)

    def __call__(
        self,
        number: int,
        hidden: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        at: Step,
        blocks: Blocks,
    ) -> torch.Tensor:
        """[rows, width] in and out."""
        layer, rotated = self.layer, sum(self.heads[:2])
        states = linear(layer.input_layernorm(hidden), *self.qkv).view(len(hidden), -1, self.width)
        both = states[:, :rotated]
        if self.norms:
            both = torch.cat([norm(part) for norm, part in zip(self.norms, self._parts(both), strict=True)], 1)
        query, key = self._parts(_rotated(both, *angles))
        given = blocks.attend(number, query, key, states[:, rotated:], at, self.window, None)
        hidden = hidden + layer.self_attn.o_proj(given.flatten(1))
        gate, up = linear(layer.post_attention_layernorm(hidden), *self.gated).chunk(2, -1)
        return hidden + layer.mlp.down_proj(layer.mlp.act_fn(gate).mul_(up))

    def _parts(self, both: torch.Tensor) -> Sequence[torch.Tensor]:
        return both.split(self.heads[:2], 1)


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """[rows, heads, width] by the angles [rows, heads, width] and, of the sine, half as wide."""
    turned = states * cos
    half = sin.shape[-1]
    turned[..., :half].addcmul_(states[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin)
    return turned


@torch.no_grad()
def _joined(modules: list[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The modules' weights and biases as one each, of which the modules' own become parts."""
    weight = torch.cat([module.weight for module in modules])
    sizes = [module.out_features for module in modules]
    for module, part in zip(modules, weight.split(sizes), strict=True):
        module.weight.data = part
    biases = [module.bias for module in modules if module.bias is not None]
    return weight, torch.cat(biases) if biases else None
