"""What a model's config.json says of its function: transformers' defaults for absent fields, windows, scales, and a
refusal of everything that this pipeline does not compute.

Owns the meaning of the fields, for plan and jobs alike, beside conf/rotary.py; reads no files."""

from __future__ import annotations

from typing import Any

from conf.families import FAMILIES, family_of, known
from conf.family import Family
from conf.mixture import mixed
from conf.rotary import GLOBAL, LOCAL, local_rope, number, rope, row, width

REQUIRED = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
}
"""Those of transformers 5.23's config classes where all families agree; the table has the others."""
MULTIPLIERS = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
FOLLOWING = ("layer_types", "no_rope_layers")
"""Fields with one value a layer, which go with their layers when some are dropped."""
WINDOWED, FULL = LOCAL, GLOBAL
"""Kinds of attention in `layer_types`."""


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
    defaults = DEFAULTS | {family.activation: family.activations[0]} | family.defaults
    defaults |= {"architectures": [family.architecture], "num_key_value_heads": groups}
    whole = config | {name: value for name, value in defaults.items() if name not in given}
    _check_function(whole, family, where)
    whole |= mixed(whole, family, where)
    if family.attention_cap or family.logits_cap:
        whole |= dict(zip(CAPS, caps(whole, where), strict=True))
    if family.unrotated:
        whole["no_rope_layers"] = _rotated(whole, where)
    if types := _layer_types(whole, family, where):
        whole["layer_types"] = types
    windows(whole, where)
    theta = rope(whole, where).theta
    local_rope(whole, where)
    attention_scale(whole, where)
    named = family.local_theta or any(
        (config.get(name) or {}).get("rope_theta") for name in ("rope_scaling", "rope_parameters")
    )
    if (
        whole.get("head_dim") is None
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
    if config[family.activation] not in family.activations:
        raise ValueError(
            f"{where} has {family.activation} {config[family.activation]}; only {' or '.join(family.activations)} is"
            f" supported for {family.title}"
        )
    for name, cap in zip(CAPS, (family.attention_cap, family.logits_cap), strict=True):
        if config.get(name) is not None and cap is None:
            raise ValueError(
                f"{where} sets {name}, a cap that is not supported for {family.title}; choose a model without it"
            )
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        name = "is_causal to false" if config.get("is_causal") is False else "use_bidirectional_attention"
        raise ValueError(f"{where} sets {name}; choose a model that reads from left to right")
    for name in MULTIPLIERS if family.multipliers else ():
        number(config[name], name, where)


def _layer_types(config: dict[str, Any], family: Family, where: str) -> list[str] | None:
    """The kind of attention of each layer, written out where transformers derives it; None where all have the same."""
    layers, given = config["num_hidden_layers"], config.get("layer_types")
    if not isinstance(layers, int):
        return None  # refused with the other dimensions
    if given is not None:
        if not isinstance(given, list):
            raise ValueError(f"{where} has layer_types {str(given)[:60]}; it must hold one for each of {layers} layers")
        other = [kind for kind in given if kind not in (FULL, WINDOWED)]
        if other or (WINDOWED in given and family.windows not in ("switched", "some")):
            raise ValueError(
                f"{where} has layers with {(other or [WINDOWED])[0]}, which is not supported for {family.title}; choose"
                " a model with full attention"
            )
        if len(given) != layers:
            raise ValueError(f"{where} has {len(given)} layer_types; it must hold one for each of {layers} layers")
        return list(given)
    if family.windows == "some":
        period = config.get(family.period_field, family.period)
        if isinstance(period, bool) or not isinstance(period, int) or period < 1:
            raise ValueError(f"{where} has {family.period_field} {period!r}; it must be a whole number above 0")
        return [WINDOWED if layer % period else FULL for layer in range(1, layers + 1)]
    if family.windows != "switched" or not config.get("use_sliding_window") or _window(config, family) is None:
        return None
    if family.unrotated:
        return [FULL if rotated else WINDOWED for rotated in config["no_rope_layers"]]
    first = config.get("max_window_layers", 28)
    return [WINDOWED if layer >= first else FULL for layer in range(layers)]


def _window(config: dict[str, Any], family: Family) -> Any:
    return config.get("sliding_window", family.window)


def windows(config: dict[str, Any], where: str = "config.json") -> list[int | None]:
    """For each layer of a completed config, how many tokens it attends to, itself included; None: to all before it, or
    to as many as the longest sequence has."""
    family, layers, longest = row(config), config["num_hidden_layers"], config["max_position_embeddings"]
    if not isinstance(layers, int):
        return []  # refused with the other dimensions
    types = config.get("layer_types") or [WINDOWED if family.windows == "all" else FULL] * layers
    window = _window(config, family)
    if WINDOWED not in types or (family.windows == "all" and window is None):
        return [None] * layers
    if family.windows == "switched" and not config.get("use_sliding_window"):
        raise ValueError(
            f"{where} has layers with {WINDOWED} but does not set use_sliding_window; set it, or make them {FULL}"
        )
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f"{where} has sliding_window {window!r}; it must be a whole number above 0")
    if not isinstance(longest, int) or window >= longest:
        return [None] * layers
    return [window if kind == WINDOWED else None for kind in types]


def attention_scale(config: dict[str, Any], where: str = "config.json") -> float | None:
    """What attention scores are multiplied by; None: one over the root of a head's width."""
    family = row(config)
    if family.query_scalar:
        scale: float = number(config["query_pre_attn_scalar"], "query_pre_attn_scalar", where) ** -0.5
        return scale
    return float(config["attention_multiplier"]) if family.multipliers else None


def caps(config: dict[str, Any], where: str = "config.json") -> tuple[float | None, float | None]:
    """What attention scores and logits are capped at, x becoming cap x tanh(x / cap); None: they are not capped."""
    family = row(config)
    given = (config.get(CAPS[0], family.attention_cap), config.get(CAPS[1], family.logits_cap))
    scores, logits = (None if cap is None else number(cap, name, where) for name, cap in zip(CAPS, given, strict=True))
    return scores, logits


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


def for_engines(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with what transformers 5 does not read but others do: `rope_in_both_forms`, and the activation under the
    name that engines look for."""
    family = row(config)
    copied = {family.copied_activation: config.get(family.activation, family.activations[0])}
    return (copied if family.copied_activation else {}) | rope_in_both_forms(config)


def rope_in_both_forms(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with `rope_theta` and `rope_scaling` beside `rope_parameters`, which transformers 4 and engines built on
    it do not know: they would take their default base without a word. transformers 5 reads the same from both."""
    given = config.get("rope_parameters")
    if not given:
        return config
    older: dict[str, Any] = {"rope_theta": rope(config).theta}
    if local := local_rope(config):
        older["rope_local_base_freq"], given = local.theta, given.get(GLOBAL) or {}
    if not config.get("rope_scaling") and given.get("rope_type", "default") != "default":
        older["rope_scaling"] = {name: value for name, value in given.items() if name != "rope_theta"}
    return config | older


def head_dim(config: dict[str, Any]) -> int:
    """Width of one attention head, from the content of a config.json."""
    return width(config)


def key_value_heads(config: dict[str, Any]) -> int:
    """Key-value heads, from the content of a config.json."""
    default = None if "num_key_value_heads" in config else row(config).absent_groups
    heads: int = config.get("num_key_value_heads") or default or config["num_attention_heads"]
    return heads


def longest(config: dict[str, Any]) -> int:
    """Most tokens of a sequence, from the content of a config.json."""
    return int(config.get("max_position_embeddings") or row(config).defaults["max_position_embeddings"])


def stop_ids(*values: Any) -> set[int]:
    """All end-of-sequence ids in values of `eos_token_id`, each a number, a list or absent."""
    found: set[int] = set()
    for value in values:
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return found
