"""The families of decoders that imbik computes, one row each.

Owns how families differ: whoever needs to know asks the row (conf/family.py), and nobody compares names."""

from __future__ import annotations

from typing import Any, Literal, get_args

from conf.family import GELU, Experts, Family
from conf.nearest import nearest

Name = Literal[
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "phi3",
    "smollm3",
    "granite",
    "gemma",
    "gemma2",
    "gemma3_text",
    "qwen3_moe",
    "mixtral",
]
"""transformers' `model_type`."""
FAMILIES: dict[str, Family] = {
    "llama": Family(
        title="Llama",
        architecture="LlamaForCausalLM",
        whole_heads=True,
        defaults={"attention_bias": False, "max_position_embeddings": 2048, "mlp_bias": False},
        nemo=("LlamaModel", "Llama31Config8B"),
    ),
    "qwen2": Family(
        title="Qwen2",
        architecture="Qwen2ForCausalLM",
        qkv_bias=True,
        windows="switched",
        window=4096,
        absent_groups=32,
        defaults={"max_position_embeddings": 32_768},
    ),
    "qwen3": Family(
        title="Qwen3",
        architecture="Qwen3ForCausalLM",
        qk_norm=True,
        windows="switched",
        window=4096,
        absent_groups=32,
        defaults={"attention_bias": False, "max_position_embeddings": 32_768, "head_dim": 128},
        nemo=("Qwen3Model", "Qwen3Config8B"),
    ),
    "mistral": Family(
        title="Mistral",
        architecture="MistralForCausalLM",
        windows="all",
        window=4096,
        absent_groups=8,
        defaults={"max_position_embeddings": 131_072},
        scratch={"sliding_window": None},
    ),
    "phi3": Family(
        title="Phi-3",
        architecture="Phi3ForCausalLM",
        fused=True,
        windows="all",
        ropes=("default", "longrope"),
        renamed_ropes={"su": "longrope", "yarn": "longrope"},
        factors_by_hidden=True,
        partly_rotated=True,
        defaults={
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        scratch={"sliding_window": None, "pad_token_id": None},
    ),
    "smollm3": Family(
        title="SmolLM3",
        architecture="SmolLM3ForCausalLM",
        unrotated=True,
        windows="switched",
        absent_groups=4,
        rope_theta=2_000_000.0,
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 32_768,
            "mlp_bias": False,
            "tie_word_embeddings": True,
        },
        scratch={"pad_token_id": None},
    ),
    "granite": Family(
        title="Granite",
        architecture="GraniteForCausalLM",
        multipliers=True,
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 2048,
            "mlp_bias": False,
            "embedding_multiplier": 1.0,
            "attention_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
    ),
    "gemma": Family(
        title="Gemma",
        architecture="GemmaForCausalLM",
        activations=GELU,
        zero_centred=True,
        root_scaled=True,
        absent_groups=16,
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 8192,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "tie_word_embeddings": True,
        },
        scratch={"hidden_act": "gelu_pytorch_tanh", "pad_token_id": None},
    ),
    "gemma2": Family(
        title="Gemma 2",
        architecture="Gemma2ForCausalLM",
        whole_heads=True,
        windows="some",
        window=4096,
        period=2,
        activations=GELU,
        activation="hidden_activation",
        copied_activation="hidden_act",
        zero_centred=True,
        sandwiched=True,
        root_scaled=True,
        attention_cap=50.0,
        logits_cap=30.0,
        query_scalar=True,
        absent_groups=4,
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 8192,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "tie_word_embeddings": True,
        },
        scratch={"hidden_activation": "gelu_pytorch_tanh", "pad_token_id": None},
    ),
    "gemma3_text": Family(
        title="Gemma 3",
        architecture="Gemma3ForCausalLM",
        qk_norm=True,
        whole_heads=True,
        windows="some",
        window=4096,
        period=6,
        period_field="sliding_window_pattern",
        rope_theta=1_000_000.0,
        local_theta=10_000.0,
        ropes=("default", "linear"),
        activations=GELU,
        activation="hidden_activation",
        zero_centred=True,
        sandwiched=True,
        root_scaled=True,
        query_scalar=True,
        absent_groups=4,
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 131_072,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "tie_word_embeddings": True,
        },
        scratch={"hidden_activation": "gelu_pytorch_tanh", "pad_token_id": None},
    ),
    "qwen3_moe": Family(
        title="Qwen3-MoE",
        architecture="Qwen3MoeForCausalLM",
        qk_norm=True,
        absent_groups=4,
        experts=Experts(
            count="num_experts",
            width="moe_intermediate_size",
            module="mlp",
            projections=("gate_proj", "up_proj", "down_proj"),
            absent=128,
            normalized=False,
        ),
        defaults={
            "attention_bias": False,
            "max_position_embeddings": 32_768,
            "moe_intermediate_size": 768,
            "num_experts_per_tok": 8,
            "norm_topk_prob": False,
            "router_aux_loss_coef": 0.001,
        },
        scratch={"norm_topk_prob": True},
    ),
    "mixtral": Family(
        title="Mixtral",
        architecture="MixtralForCausalLM",
        windows="all",
        absent_groups=8,
        rope_theta=1_000_000.0,
        experts=Experts(
            count="num_local_experts",
            width="intermediate_size",
            module="block_sparse_moe",
            projections=("w1", "w3", "w2"),
            absent=8,
        ),
        defaults={
            "max_position_embeddings": 131_072,
            "num_experts_per_tok": 2,
            "rms_norm_eps": 1e-5,
            "router_aux_loss_coef": 0.001,
        },
        scratch={"pad_token_id": None},
    ),
}
assert FAMILIES.keys() == set(get_args(Name))


def known() -> str:
    """The families' names in a sentence."""
    titles = [family.title for family in FAMILIES.values()]
    return f"{', '.join(titles[:-1])} or {titles[-1]}"


def family_of(config: dict[str, Any], where: str = "config.json") -> Family:
    """The row of a config.json. Raises ValueError for a family without one, with the nearest and what differs."""
    name = config.get("model_type")
    if isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    titles = {row: family.title for row, family in FAMILIES.items()}
    raise ValueError(f"{where} has model_type {name!r}{nearest(name, config, titles)}; choose a {known()} model")
