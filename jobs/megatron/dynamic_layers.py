"""What ModelOpt's Minitron needs to know of the layers that `attention` builds: how each is cut, and where its input's
norm is measured.

ModelOpt 0.44 and later knows Transformer Engine's layers only, whose norms are part of the projections that read them.
Ours are Megatron's local ones, on GPUs too: what is cut there is what was tested here. They are registered when this
module is imported. What is measured, ranked and cut is bit for bit what ModelOpt 0.43 measured, ranked and cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from modelopt.torch.nas.modules.norm import _DynamicLayerNorm
from modelopt.torch.nas.registry import DMRegistry
from modelopt.torch.opt.dynamic import DynamicModule

from jobs.megatron import modelopt_minitron as minitron
from jobs.megatron.attention import FusedAttention, SandwichLayer, ZeroCentredNorm

Engine = minitron._DynamicTEQKVLayerNormColumnParallelLinear
EngineOutput = minitron._DynamicTEProjRowParallelLinear


class DynamicRMSNorm(_DynamicLayerNorm):
    """torch.nn.RMSNorm and its zero-centred form."""

    def _setup(self, *, num_features: Any) -> None:
        self._register_hparam("num_features", num_features)
        self._register_dynamic_attribute("weight", self._cut_to_active_features)
        self._register_dynamic_attribute("normalized_shape", self._get_normalized_shape)


class DynamicSandwichLayer(minitron._DynamicTransformerLayer):
    """The two norms that ModelOpt's own layer does not have are cut with the residual stream."""

    def _setup(self, *, hidden_size: Any) -> None:
        super()._setup(hidden_size=hidden_size)
        for norm in (self.post_attention_norm, self.post_mlp_norm):
            DMRegistry.convert(norm, num_features=hidden_size)

    def export(self) -> Any:
        for norm in (self.post_attention_norm, self.post_mlp_norm):
            norm.export()
        return super().export()


class DynamicQKV(DynamicModule, ColumnParallelLinear):
    """The projection to queries, keys and values: its rows are cut by heads within their groups."""

    _get_output_size_indices = Engine._get_output_size_indices

    def _setup(self, *, num_attention_heads: Any, hidden_size: Any) -> None:
        self._register_hparam("input_size", hidden_size)
        self._register_hparam("num_attention_heads", num_attention_heads)
        self._register_dynamic_attribute("output_size", _qkv_rows)
        self._register_dynamic_attribute("output_size_per_partition", lambda own, _: own.output_size)
        self._register_dynamic_attribute("weight", Engine._get_weight)
        self._register_dynamic_attribute("bias", Engine._get_bias)


def _qkv_rows(projection: Any, _: int) -> int:
    config = projection.config
    return (projection.num_attention_heads + 2 * config.num_query_groups) * config.kv_channels


class DynamicOutput(DynamicModule, RowParallelLinear):
    """The projection of the heads' outputs: its columns are cut by heads."""

    _get_input_size_indices = EngineOutput._get_input_size_indices

    def _setup(self, *, num_attention_heads: Any, hidden_size: Any) -> None:
        self._register_hparam("output_size", hidden_size)
        self._register_hparam("num_attention_heads", num_attention_heads)
        self._register_dynamic_attribute("input_size", lambda own, _: own.num_attention_heads * own.config.kv_channels)
        self._register_dynamic_attribute("input_size_per_partition", lambda own, _: own.input_size)
        self._register_dynamic_attribute("weight", EngineOutput._get_weight)
        self._register_dynamic_attribute("bias", EngineOutput._get_bias)


class DynamicSelfAttention(minitron._DynamicSelfAttention):
    """Attention over Megatron's local projections."""

    def _setup(self, *, hidden_size: Any) -> None:
        heads = minitron.NumAttentionHeadsHp(
            self.num_attention_heads_per_partition, self.num_query_groups_per_partition
        )
        self._register_hparam("num_attention_heads", heads)
        self._register_dynamic_attribute("num_attention_heads_per_partition", lambda own, _: own.num_attention_heads)
        core = self.core_attention
        # ours, never Megatron's own, which has no caps and holds all scores
        dynamic: Any = type("DynamicAttention", (DynamicModule, FusedAttention), {"_setup": lambda own: None})
        dynamic.convert(core)
        own = self
        core._register_dynamic_attribute(
            "hidden_size_per_partition", lambda _, __: own.config.kv_channels * own.num_attention_heads
        )
        core._register_dynamic_attribute("num_attention_heads_per_partition", lambda _, __: own.num_attention_heads)
        DynamicQKV.convert(self.linear_qkv, num_attention_heads=heads, hidden_size=hidden_size)
        DynamicOutput.convert(self.linear_proj, num_attention_heads=heads, hidden_size=hidden_size)


def register() -> None:
    """Tell ModelOpt of these layers. Idempotent."""
    minitron._DynamicSelfAttention._setup = DynamicSelfAttention._setup
    if "nn.RMSNorm" not in DMRegistry:
        DMRegistry.register({ZeroCentredNorm: "imbik.ZeroCentredNorm"})(DynamicRMSNorm)
        DMRegistry.register({torch.nn.RMSNorm: "nn.RMSNorm"})(DynamicRMSNorm)
        DMRegistry.register({SandwichLayer: "imbik.SandwichLayer"})(DynamicSandwichLayer)


class Registry(minitron.ImportanceEstimatorRegistry):
    """ModelOpt's hooks, on norms that are modules of their own, and without the means over no tokens that experts
    would give where nothing is routed to them."""

    def register_hook(self, module: Any, hook_fn: Any, hook_type: str = "forward", **named: Any) -> None:
        """As the parent's; before experts the residual stream is not measured, as ModelOpt 0.43 did not."""
        if isinstance(module, torch.nn.RMSNorm):
            return
        if isinstance(module, ColumnParallelLinear):
            hook_fn = _of_the_norm_before(module, hook_fn)
        super().register_hook(module, _unless_empty(hook_fn), hook_type, **named)


def _of_the_norm_before(projection: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook of a projection that also returns what its norm gave, on one that is given it."""
    projection.te_return_bias = True  # the form of such outputs: what was projected, the bias, what the norm gave

    def with_normed(inner: Any, inputs: tuple[Any, ...], output: tuple[Any, Any]) -> Any:
        return hook(inner, inputs, (*output, inputs[0]))

    return with_normed


def _unless_empty(hook: Callable[..., Any]) -> Callable[..., Any]:
    def hook_of_tokens(inner: Any, inputs: tuple[Any, ...], *rest: Any) -> Any:
        empty = bool(inputs) and isinstance(inputs[0], torch.Tensor) and inputs[0].numel() == 0
        return None if empty else hook(inner, inputs, *rest)

    return hook_of_tokens


register()
