"""What a model's config.json says of its function: transformers' defaults for absent fields, the rotary embedding, and
a refusal of everything that this pipeline does not compute.

Owns the meaning of the fields, for plan and jobs alike; reads no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
SILU = ("silu", "swish")
"""Two names of one activation."""
REQUIRED = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
}
"""Those of transformers 5.23's LlamaConfig and Qwen3Config where both agree; tests compare them."""
DEFAULTS_OF: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048, "mlp_bias": False},
    "qwen3": {"max_position_embeddings": 32_768, "head_dim": 128},
}
ABSENT_GROUPS = {"qwen3": 32}
"""Key-value heads where the field is absent; where it is null, and for the others, as many as query heads."""
ROPE_THETA = 10_000.0
SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""The values that determine a rotary embedding of type llama3."""


@dataclass(frozen=True, kw_only=True)
class Rope:
    """A rotary embedding: its base, and the values of a llama3 scaling by their names in config.json."""

    theta: float
    scaling: dict[str, float] | None = None


def completed(config: dict[str, Any], where: str = "config.json") -> dict[str, Any]:
    """`config` with transformers' defaults for absent fields. Raises ValueError, which calls it `where`, for a model
    that this pipeline does not compute exactly."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(f"{where} has model_type {kind!r}; choose a Llama or Qwen3 model")
    if missing := [name for name in REQUIRED if config.get(name) is None]:
        raise ValueError(
            f"{where} does not describe a Llama or Qwen3 decoder ({missing[0]} is missing); choose such a model"
        )
    given = {name: value for name, value in config.items() if value is not None}
    heads, groups = config["num_attention_heads"], key_value_heads(config)
    defaults = DEFAULTS | DEFAULTS_OF[kind] | {"architectures": [ARCHITECTURES[kind]], "num_key_value_heads": groups}
    whole = config | {name: value for name, value in defaults.items() if name not in given}
    _check_function(whole, where)
    theta = rope(whole, where).theta
    named = any((config.get(name) or {}).get("rope_theta") for name in ("rope_scaling", "rope_parameters"))
    if "head_dim" not in given and kind == "llama" and isinstance(heads, int) and isinstance(whole["hidden_size"], int):
        whole["head_dim"] = whole["hidden_size"] // max(heads, 1)
    return whole if named or "rope_theta" in given else whole | {"rope_theta": theta}


def _check_function(config: dict[str, Any], where: str) -> None:
    """Raise ValueError for a field whose value changes the function in a way that is not supported."""
    architecture = config["architectures"][0] if config["architectures"] else None
    if architecture != ARCHITECTURES[config["model_type"]]:
        raise ValueError(
            f"{where} has architecture {architecture}; supported are {', '.join(ARCHITECTURES.values())}, each with"
            " its model_type"
        )
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            raise ValueError(f"{where} sets {name}, which is not supported; choose a model without biases")
    if config["hidden_act"] not in SILU:
        raise ValueError(f"{where} has hidden_act {config['hidden_act']}; only silu is supported")
    other = [kind for kind in config.get("layer_types") or () if kind != "full_attention"]
    if config.get("use_sliding_window") or other:
        raise ValueError(
            f"{where} uses {other[0] if other else 'sliding-window attention'}, which is not supported; choose a model"
            " with full attention"
        )
    if config.get("is_causal") is False:
        raise ValueError(f"{where} sets is_causal to false; choose a model that reads from left to right")


def rope(config: dict[str, Any], where: str = "config.json") -> Rope:
    """The rotary embedding that a config.json describes, read where transformers reads it: `rope_scaling`, else
    `rope_parameters` (since 5.0)."""
    given = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in ("default", "llama3") or any(isinstance(value, dict) for value in given.values()):
        what = f"by '{kind}'" if kind not in ("default", "llama3") else "differently for each kind of layer"
        raise ValueError(f"{where} scales its rotary embedding {what}; supported are default and llama3")
    share = given.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share != 1.0:
        raise ValueError(f"{where} has partial_rotary_factor {share}; choose a model that rotates whole heads")
    theta = _number(given.get("rope_theta") or config.get("rope_theta") or ROPE_THETA, "rope_theta", where)
    if kind == "default":
        return Rope(theta=theta)
    original, outer = SCALING[-1], config.get("original_max_position_embeddings")
    values = {original: config.get("max_position_embeddings")} | given | ({original: outer} if outer else {})
    if missing := [name for name in SCALING if values.get(name) is None]:
        raise ValueError(f"{where} scales its rotary embedding by 'llama3' without {missing[0]}; add it")
    scaling = {name: _number(values[name], name, where) for name in SCALING}
    if scaling["high_freq_factor"] <= scaling["low_freq_factor"]:
        raise ValueError(
            f"{where} has high_freq_factor {scaling['high_freq_factor']:g}, which is not above low_freq_factor"
            f" {scaling['low_freq_factor']:g}; correct the rotary embedding"
        )
    return Rope(theta=theta, scaling=scaling)


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{where} has {name} {value!r}; it must be a number above 0")
    return float(value)


def head_dim(config: dict[str, Any]) -> int:
    """Width of one attention head, from the content of a config.json."""
    default = DEFAULTS_OF.get(str(config.get("model_type")), {}).get("head_dim")
    return int(config.get("head_dim") or default or config["hidden_size"] // config["num_attention_heads"])


def key_value_heads(config: dict[str, Any]) -> int:
    """Key-value heads, from the content of a config.json."""
    default = None if "num_key_value_heads" in config else ABSENT_GROUPS.get(str(config.get("model_type")))
    heads: int = config.get("num_key_value_heads") or default or config["num_attention_heads"]
    return heads


def longest(config: dict[str, Any]) -> int:
    """Most tokens of a sequence, from the content of a config.json."""
    length = config.get("max_position_embeddings")
    return int(
        length or DEFAULTS_OF.get(str(config.get("model_type")), DEFAULTS_OF["llama"])["max_position_embeddings"]
    )


def stop_ids(*values: Any) -> set[int]:
    """All end-of-sequence ids in values of `eos_token_id`, each a number, a list or absent."""
    found: set[int] = set()
    for value in values:
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return found
