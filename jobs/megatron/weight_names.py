"""What Hugging Face's files call Megatron's parameters."""

from __future__ import annotations

import re

from conf.family import Experts, Family

OF_EXPERT = re.compile(r"mlp\.experts\.(?:local_experts\.(\d+)\.linear_fc([12])\.weight|linear_fc([12])\.weight(\d+))")
"""A matrix of an expert: a module of its own, or, where Transformer Engine computes all experts at once, one of many
weights."""


def names_of(parameter: str, family: Family, first: int = 0) -> tuple[tuple[str, ...], str]:
    """Hugging Face names and kind of split of a Megatron parameter, named relative to its layer or to the model;
    `first`: the number of this rank's first expert."""
    if family.experts and parameter.startswith("mlp.") and not parameter.endswith("norm_weight"):
        return _expert_names(parameter, family.experts, first)
    joint, gated = ("self_attn.qkv_proj.weight",), ("mlp.gate_up_proj.weight",)
    parts = tuple(f"self_attn.{part}_proj" for part in "qkv")
    before_mlp = ("pre_feedforward_layernorm.weight" if family.sandwiched else "post_attention_layernorm.weight",)
    table = {
        "embedding.word_embeddings.weight": (("model.embed_tokens.weight",), "rows"),
        "decoder.final_layernorm.weight": (("model.norm.weight",), "whole"),
        "output_layer.weight": (("lm_head.weight",), "rows"),
        "input_layernorm.weight": (("input_layernorm.weight",), "whole"),
        "pre_mlp_layernorm.weight": (before_mlp, "whole"),
        "post_attention_norm.weight": (("post_attention_layernorm.weight",), "whole"),
        "post_mlp_norm.weight": (("post_feedforward_layernorm.weight",), "whole"),
        "self_attention.linear_qkv.weight": (
            joint if family.fused else tuple(f"{part}.weight" for part in parts),
            "qkv",
        ),
        "self_attention.linear_qkv.bias": (tuple(f"{part}.bias" for part in parts), "qkv"),
        "self_attention.q_layernorm.weight": (("self_attn.q_norm.weight",), "whole"),
        "self_attention.k_layernorm.weight": (("self_attn.k_norm.weight",), "whole"),
        "self_attention.linear_proj.weight": (("self_attn.o_proj.weight",), "columns"),
        "mlp.linear_fc1.weight": (
            gated if family.fused else ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
            "gated",
        ),
        "mlp.linear_fc2.weight": (("mlp.down_proj.weight",), "columns"),
        # Transformer Engine stores a norm with the projections that read it.
        "self_attention.linear_qkv.layer_norm_weight": (("input_layernorm.weight",), "whole"),
        "mlp.linear_fc1.layer_norm_weight": (before_mlp, "whole"),
    }
    assert parameter in table, f"no Hugging Face name for {parameter}"
    return table[parameter]


def _expert_names(parameter: str, experts: Experts, first: int) -> tuple[tuple[str, ...], str]:
    """The same for the router and the experts of a layer."""
    if parameter == "mlp.router.weight":
        return (f"{experts.module}.gate.weight",), "whole"
    gate, up, down = experts.projections
    own = OF_EXPERT.fullmatch(parameter)
    assert own, f"no Hugging Face name for {parameter}"
    number, matrix = first + int(own[1] or own[4]), own[2] or own[3]
    parts, split = ((gate, up), "gated") if matrix == "1" else ((down,), "columns")
    return tuple(f"{experts.module}.experts.{number}.{part}.weight" for part in parts), split
