"""What a model's config.json says of its function: transformers' defaults for absent fields, the rotary embedding, and
a refusal of everything that this pipeline does not compute.

Owns the meaning of the fields, for plan and jobs alike; reads no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conf.families import FAMILIES, Family, family_of, known

SILU = ("silu", "swish")
"""Two names of one activation."""
REQUIRED = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
"""Those of transformers 5.23's config classes where all families agree; the table has the others."""
FOLLOWING = ("layer_types", "no_rope_layers")
"""Fields with one value a layer, which go with their layers when some are dropped."""
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
    family = family_of(config, where)
    if missing := [name for name in REQUIRED if config.get(name) is None]:
        raise ValueError(
            f"{where} does not describe a {known()} decoder ({missing[0]} is missing); choose such a model"
        )
    given = {name: value for name, value in config.items() if value is not None}
    heads, groups = config["num_attention_heads"], key_value_heads(config)
    defaults = DEFAULTS | family.defaults | {"architectures": [family.architecture], "num_key_value_heads": groups}
    whole = config | {name: value for name, value in defaults.items() if name not in given}
    _check_function(whole, family, where)
    if family.unrotated:
        whole["no_rope_layers"] = _rotated(whole, where)
    theta = rope(whole, where).theta
    named = any((config.get(name) or {}).get("rope_theta") for name in ("rope_scaling", "rope_parameters"))
    if (
        "head_dim" not in given
        and family.whole_heads
        and isinstance(heads, int)
        and isinstance(whole["hidden_size"], int)
    ):
        whole["head_dim"] = whole["hidden_size"] // max(heads, 1)
    return whole if named or "rope_theta" in given else whole | {"rope_theta": theta}


def _check_function(config: dict[str, Any], family: Family, where: str) -> None:
    """Raise ValueError for a field whose value changes the function in a way that is not supported."""
    architecture = config["architectures"][0] if config["architectures"] else None
    if architecture != family.architecture:
        supported = ", ".join(row.architecture for row in FAMILIES.values())
        raise ValueError(
            f"{where} has architecture {architecture}; supported are {supported}, each with its model_type"
        )
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name) and not (family.qkv_bias and name == "attention_bias"):  # which has no such field
            raise ValueError(f"{where} sets {name}, which is not supported; choose a model without biases")
    if config["hidden_act"] not in SILU:
        raise ValueError(f"{where} has hidden_act {config['hidden_act']}; only silu is supported")
    _check_window(config, family, where)
    if config.get("is_causal") is False:
        raise ValueError(f"{where} sets is_causal to false; choose a model that reads from left to right")


def _check_window(config: dict[str, Any], family: Family, where: str) -> None:
    """Raise ValueError for attention to a window that is shorter than the longest sequence."""
    other = [kind for kind in config.get("layer_types") or () if kind != "full_attention"]
    if other or (config.get("use_sliding_window") and not family.windowed):
        raise ValueError(
            f"{where} uses {other[0] if other else 'sliding-window attention'}, which is not supported; choose a model"
            " with full attention"
        )
    window, longest = config.get("sliding_window", family.window), config["max_position_embeddings"]
    if family.windowed and isinstance(window, int) and isinstance(longest, int) and window < longest:
        said = "has" if "sliding_window" in config else "leaves out sliding_window, which means"
        raise ValueError(
            f"{where} {said} a sliding window of {window:,} tokens, which is not supported for sequences up to its"
            f" max_position_embeddings {longest:,}; set max_position_embeddings to {window}"
            " there, or choose a model with full attention"
        )


def _rotated(config: dict[str, Any], where: str) -> list[int]:
    """For each layer 1, or 0 where it has no rotary embedding."""
    layers, given = config["num_hidden_layers"], config.get("no_rope_layers")
    if not isinstance(layers, int):
        return []  # refused with the other dimensions
    if given is None:
        interval = config.get("no_rope_layer_interval", 4)
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f"{where} has no_rope_layer_interval {interval!r}; it must be a whole number above 0")
        return [int(layer % interval != 0) for layer in range(1, layers + 1)]
    if not isinstance(given, list) or len(given) != layers or any(value not in (0, 1) for value in given):
        raise ValueError(
            f"{where} has no_rope_layers {str(given)[:60]}; it must hold a 0 or 1 for each of {layers} layers"
        )
    return [int(value) for value in given]


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
    theta = _number(given.get("rope_theta") or config.get("rope_theta") or _row(config).rope_theta, "rope_theta", where)
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


def rope_in_both_forms(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with `rope_theta` and `rope_scaling` beside `rope_parameters`, which transformers 4 and engines built on
    it do not know: they would take their default base without a word. transformers 5 reads the same from both."""
    given = config.get("rope_parameters")
    if not given:
        return config
    older: dict[str, Any] = {"rope_theta": rope(config).theta}
    if not config.get("rope_scaling") and given.get("rope_type", "default") != "default":
        older["rope_scaling"] = {name: value for name, value in given.items() if name != "rope_theta"}
    return config | older


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{where} has {name} {value!r}; it must be a number above 0")
    return float(value)


def head_dim(config: dict[str, Any]) -> int:
    """Width of one attention head, from the content of a config.json."""
    default = _row(config).defaults.get("head_dim")
    return int(config.get("head_dim") or default or config["hidden_size"] // config["num_attention_heads"])


def key_value_heads(config: dict[str, Any]) -> int:
    """Key-value heads, from the content of a config.json."""
    default = None if "num_key_value_heads" in config else _row(config).absent_groups
    heads: int = config.get("num_key_value_heads") or default or config["num_attention_heads"]
    return heads


def longest(config: dict[str, Any]) -> int:
    """Most tokens of a sequence, from the content of a config.json."""
    return int(config.get("max_position_embeddings") or _row(config).defaults["max_position_embeddings"])


def _row(config: dict[str, Any]) -> Family:
    """The row of a config.json; Llama's for one without a known model_type."""
    return FAMILIES.get(str(config.get("model_type")), FAMILIES["llama"])


def stop_ids(*values: Any) -> set[int]:
    """All end-of-sequence ids in values of `eos_token_id`, each a number, a list or absent."""
    found: set[int] = set()
    for value in values:
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return found
