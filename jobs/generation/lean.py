"""A plain Llama-like model in few operations: with a token a row, starting them is most of the time.

Queries, keys and values come of one product, and so do gate and up; queries and keys are rotated together, in place.
Other families, and layers that something was put around (ModelOpt's quantizers, adapters), run as transformers runs
them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import silu
from transformers import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from jobs.generation.blocks import Blocks, Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLAIN = ("llama", "mistral", "qwen2", "qwen3")
"""The families that are computed here; others norm, scale, rotate or mix otherwise."""
Attend = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From queries and from keys and then values, both [tokens, heads, width], to what is taken, [tokens, query heads,
width]."""
Matrix = tuple[torch.Tensor, torch.Tensor | None]
"""A weight, turned so that its outputs are last, and a bias."""


class Lean:
    """A model's layers. Their matrices become parts of joint ones, so that no weight is kept twice."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model.model
        self.layers = [_Layer(layer) for layer in self.model.layers]
        self.norm = _Norm(self.model.norm)
        queries, keys, _ = self.layers[0].heads
        self.scaling = self.model.layers[0].self_attn.scaling
        self.scales = torch.ones(queries + keys, 1, device=model.device)
        self.scales[:queries] = self.scaling

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Whether the model is made of what is computed here, and nothing else."""
        if model.config.model_type not in PLAIN or model.config.hidden_act != "silu":
            return False
        modules = dict(model.model.layers.named_modules())
        matrices = [module for name, module in modules.items() if name.endswith("_proj")]
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in modules.values())
        changed = hooked or any("quantizer" in name for name in modules)
        return not changed and all(type(module) is torch.nn.Linear for module in matrices)

    def __call__(self, tokens: torch.Tensor, at: Step, blocks: Blocks) -> torch.Tensor:
        """The last hidden states [rows, width] after `tokens` [rows]."""
        hidden = self.model.embed_tokens(tokens)
        angles = self._angles(hidden, at.positions, self.scales)  # queries are scaled as they are turned
        for number, layer in enumerate(self.layers):

            def attend(query: torch.Tensor, new: torch.Tensor, number: int = number) -> torch.Tensor:
                return blocks.attend(number, query, new, at, self.layers[number].window, None)

            hidden = layer(hidden, angles, attend)
        return self.norm(hidden)

    def read(self, tokens: torch.Tensor, cache: Cache, ends: torch.Tensor) -> torch.Tensor:
        """The last hidden states [rows, width] at the columns `ends` [rows] of `tokens` [rows, columns], which follow
        what `cache` holds and are added to it."""
        rows, columns = tokens.shape
        past = cache.get_seq_length()
        hidden = self.model.embed_tokens(tokens.flatten())
        positions = torch.arange(past, past + columns, device=tokens.device)[None]
        angles = self._angles(hidden, positions.repeat(rows, 1).flatten(), torch.ones_like(self.scales[:1]))
        only = torch.arange(rows, device=tokens.device) * columns + ends
        for number, layer in enumerate(self.layers):

            def attend(query: torch.Tensor, new: torch.Tensor, number: int = number) -> torch.Tensor:
                own, asked = self.layers[number], positions if len(query) > rows else past + ends[:, None]
                both = (part.transpose(1, 2) for part in new.unflatten(0, (rows, columns)).chunk(2, 2))
                keys, values = cache.update(*both, number)
                seen = _seen(asked, keys.shape[2], own.window)
                query = query.unflatten(0, (rows, -1)).transpose(1, 2)
                module = own.layer.self_attn
                return sdpa_attention_forward(module, query, keys, values, seen, scaling=self.scaling)[0].flatten(0, 1)

            hidden = layer(hidden, angles, attend, only if number + 1 == len(self.layers) else None)
        return self.norm(hidden)

    def _angles(
        self, hidden: torch.Tensor, positions: torch.Tensor, scales: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines, and sines with the sign of what they turn, of [positions], times the `scales` [heads, 1]; both
        [positions, heads, width]."""
        cos, sin = self.model.rotary_emb(hidden, position_ids=positions[:, None])
        sin = torch.cat([-sin[..., : sin.shape[-1] // 2], sin[..., sin.shape[-1] // 2 :]], -1)
        return (cos * scales).to(hidden.dtype), (sin * scales).to(hidden.dtype)


class _Layer:
    def __init__(self, layer: Any) -> None:
        own = layer.self_attn
        self.layer, self.width = layer, own.head_dim
        self.heads = tuple(part.out_features // own.head_dim for part in (own.q_proj, own.k_proj, own.v_proj))
        self.qkv = _joined([own.q_proj, own.k_proj, own.v_proj])
        self.gated = _joined([layer.mlp.gate_proj, layer.mlp.up_proj])
        self.out, self.down = _matrix(own.o_proj), _matrix(layer.mlp.down_proj)
        self.before, self.between = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.norms = [_Norm(own.q_norm), _Norm(own.k_norm)] if hasattr(own, "q_norm") else []
        family = own.config.model_type
        self.window = own.config.sliding_window if family == "mistral" else getattr(own, "sliding_window", None)

    def __call__(
        self,
        hidden: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        attend: Attend,
        only: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[tokens, width] in, which may be overwritten, and out; `only` those of these numbers, if given."""
        queries, keys, _ = self.heads
        states = _times(self.before(hidden), self.qkv).view(len(hidden), -1, self.width)
        both = states[:, : queries + keys]
        for norm, part in zip(self.norms, both.split((queries, keys), 1), strict=False):
            part.copy_(norm(part))
        turned = both.roll(self.width // 2, -1)
        both.mul_(angles[0]).addcmul_(turned, angles[1])
        query = states[:, :queries]
        if only is not None:
            hidden, query = hidden[only], query[only]
        hidden = _added(hidden, attend(query, states[:, queries:]).flatten(1), self.out)
        gate, up = _times(self.between(hidden), self.gated).chunk(2, 1)
        return _added(hidden, silu(gate).mul_(up), self.down)


class _Norm:
    """By the root of the mean square, in fp32 and in few operations."""

    def __init__(self, norm: Any) -> None:
        self.weight, self.share = norm.weight, 1 / len(norm.weight)
        self.least = torch.tensor(norm.variance_epsilon, device=norm.weight.device)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        size = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
        factor = torch.addcmul(self.least, size, size, value=self.share).rsqrt_()
        return (states * factor).mul_(self.weight).to(states.dtype)


def _times(states: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    weight, bias = matrix
    return torch.mm(states, weight) if bias is None else torch.addmm(bias, states, weight)


def _added(hidden: torch.Tensor, states: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    """`hidden`, to which the product is added in place."""
    weight, bias = matrix
    hidden = hidden.addmm_(states, weight)
    return hidden if bias is None else hidden.add_(bias)


def _seen(positions: torch.Tensor, columns: int, window: int | None) -> torch.Tensor | None:
    """Which of the first columns the tokens of each row see that are at `positions` [rows or 1, tokens]: [rows or 1, 1,
    tokens, columns]; None where there are as many tokens and each sees all up to its own."""
    if positions.shape[1] == columns and (window is None or window >= columns):
        return None
    before = positions[:, None, :, None] - torch.arange(columns, device=positions.device)
    return (before >= 0) & (before < (window or columns))


def _matrix(module: Any) -> Matrix:
    return module.weight.t(), module.bias


@torch.no_grad()
def _joined(modules: list[Any]) -> Matrix:
    """The modules' weights and biases as one each, of which the modules' own become parts."""
    weight = torch.cat([module.weight for module in modules])
    sizes = [module.out_features for module in modules]
    for module, part in zip(modules, weight.split(sizes), strict=True):
        module.weight.data = part
    biases = [module.bias for module in modules if module.bias is not None]
    return weight.t(), torch.cat(biases) if biases else None
