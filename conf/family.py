"""What a row of the table of families says: how a decoder differs from Llama.

Everything a row does not say is as in Llama: RMSNorm before attention and MLP, rotary embeddings of whole heads, a
gated MLP with SiLU, no biases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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
    period: int = 0
    """One layer in so many has full attention, where `layer_types` does not say which have a window (some)."""
    period_field: str = ""
    """Field with another period."""
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
    copied_activation: str = ""
    """Another field for it, which transformers ignores and engines need: SGLang, and vLLM until its change 36672."""
    zero_centred: bool = False
    """Norms multiply by 1 + their weight."""
    sandwiched: bool = False
    """Norms after attention and MLP too, before their output joins the residual stream."""
    root_scaled: bool = False
    """Embeddings are multiplied by the square root of the hidden size."""
    attention_cap: float | None = None
    """`attn_logit_softcapping` where config.json has none; null there means no cap. None: the family has no caps."""
    logits_cap: float | None = None
    """The same of `final_logit_softcapping`."""
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
