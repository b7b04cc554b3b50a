"""The families of decoders that imbik computes, one row each.

Owns how families differ: whoever needs to know asks the row, and nobody compares names. Everything a row does not say
is as in Llama: RMSNorm before attention and MLP, rotary embeddings of whole heads, a gated MLP with SiLU, no biases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

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
    "gemma3_text",
    "qwen3_moe",
    "mixtral",
]
"""transformers' `model_type`."""
ROPES = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
SILU = ("silu", "swish")
"""Two names of one activation."""
GELU = ("gelu_pytorch_tanh", "gelu")
"""GELU by its usual approximation, and the exact one."""


@dataclass(frozen=True, kw_only=True)
class Experts:
    """How a family with a mixture of experts in every layer names what belongs to it."""

    count: str
    """Field of config.json with their number; transformers 5 writes `num_local_experts` for all."""
    width: str
    """Field with the width of an expert's MLP."""
    module: str
    """What a layer calls its mixture, in the names of stored tensors."""
    projections: tuple[str, str, str]
    """Gate, up and down."""
    absent: int
    """Experts where the field is absent."""
    normalized: bool = True
    """The weights of a token's experts always add up to 1; otherwise only if `norm_topk_prob` is on."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family differs from Llama. Defaults are those of transformers 5.23; tests compare them."""

    title: str
    architecture: str
    """transformers' class of the causal language model."""
    qk_norm: bool = False
    """RMSNorm on queries and keys, per head."""
    qkv_bias: bool = False
    """Biases on the projections to queries, keys and values."""
    fused: bool = False
    """Stored matrices hold queries, keys and values together, and gate and up."""
    whole_heads: bool = False
    """transformers opens no model whose hidden size the query heads do not divide."""
    windows: Literal["none", "all", "switched", "some"] = "none"
    """Layers that attend to `sliding_window`: all of them, or those that `layer_types` names, if `use_sliding_window`
    is on (switched) or always (some)."""
    window: int | None = None
    """`sliding_window` where config.json has none; null there means no window."""
    unrotated: bool = False
    """`no_rope_layers` names layers without rotary embedding (0)."""
    ropes: tuple[str, ...] = ROPES
    """Kinds of rotary embedding that transformers computes for the family."""
    renamed_ropes: dict[str, str] = field(default_factory=dict)
    """Old names of kinds."""
    factors_by_hidden: bool = False
    """transformers opens no longrope whose factors do not also fit hidden size / heads, even beside a `head_dim`."""
    partly_rotated: bool = False
    """`partial_rotary_factor` may leave channels of a head unrotated."""
    local_theta: float | None = None
    """Base of a second rotary embedding, that of layers with a window."""
    activations: tuple[str, ...] = SILU
    """Names of the gate's activation in the field `activation`."""
    activation: str = "hidden_act"
    zero_centred: bool = False
    """Norms multiply by 1 + their weight."""
    sandwiched: bool = False
    """Norms after attention and MLP too, before their output joins the residual stream."""
    root_scaled: bool = False
    """Embeddings are multiplied by the square root of the hidden size."""
    query_scalar: bool = False
    """Attention scores are divided by the root of `query_pre_attn_scalar`, instead of the head's width."""
    multipliers: bool = False
    """`embedding_multiplier`, `attention_multiplier`, `residual_multiplier` and `logits_scaling`."""
    absent_groups: int | None = None
    """Key-value heads where the field is absent; where it is null, and for the others, as many as query heads."""
    experts: Experts | None = None
    """A router and experts take the place of the MLP, in every layer."""
    rope_theta: float = 10_000.0
    defaults: dict[str, Any] = field(default_factory=dict)
    """Absent fields of config.json, beyond those that all families share."""
    scratch: dict[str, Any] = field(default_factory=dict)
    """Fields of a model trained from scratch whose absence would mean something else to transformers."""
    nemo: tuple[str, str] | None = None
    """Model and config class for NeMo 2's `llm.import_ckpt`; sizes are read from the model's config.json."""


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
    "gemma3_text": Family(
        title="Gemma 3",
        architecture="Gemma3ForCausalLM",
        qk_norm=True,
        whole_heads=True,
        windows="some",
        window=4096,
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
