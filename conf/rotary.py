"""The rotary embedding that a config.json describes: its kind, base and values, read where transformers reads them, and
a refusal of what it would not compute.

Owns what is known before a model is built; the frequencies themselves are computed in jobs/megatron/rotary.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conf.families import FAMILIES
from conf.family import Family

if TYPE_CHECKING:
    from conf.stages.documents import WithDocuments

NUMBERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
    "longrope": ("original_max_position_embeddings",),
}
"""The numbers that each kind needs. `dynamic` changes nothing up to max_position_embeddings, the longest sequence that
is taken here."""
OPTIONAL = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
"""Further numbers of yarn; longrope knows the first."""
LISTS = ("short_factor", "long_factor")
"""A number for each pair of rotated channels, for sequences up to original_max_position_embeddings and longer ones."""
ORIGINAL = "original_max_position_embeddings"
LOCAL, GLOBAL = "sliding_attention", "full_attention"
"""Kinds of layers, in `layer_types` and where a family has a rotary embedding for each kind."""


@dataclass(frozen=True, kw_only=True)
class Rope:
    """A rotary embedding: its kind and base, the numbers that this kind needs by their names in config.json, the share
    of a head's channels that it turns, and the longest sequence that takes longrope's short factors."""

    theta: float
    kind: str = "default"
    values: dict[str, float] = field(default_factory=dict)
    share: float = 1.0
    switch: int | None = None


def rope(config: dict[str, Any], where: str = "config.json") -> Rope:
    """The rotary embedding of the layers with full attention. Raises ValueError, which calls the config `where`."""
    family = row(config)
    if family.local_theta is not None:
        given = _per_layer_kind(config, GLOBAL, where)
    else:
        given = config.get("rope_scaling") or config.get("rope_parameters") or {}
        for name in ("rope_scaling", "rope_parameters"):
            _check_flat(config.get(name) or {}, where)
    theta = given.get("rope_theta") or config.get("rope_theta") or family.rope_theta
    return _read(given, number(theta, "rope_theta", where), config, family, where)


def local_rope(config: dict[str, Any], where: str = "config.json") -> Rope | None:
    """The rotary embedding of the layers with a window, where it is another one."""
    family = row(config)
    if family.local_theta is None:
        return None
    given = _per_layer_kind(config, LOCAL, where)
    theta = given.get("rope_theta") or config.get("rope_local_base_freq") or family.local_theta
    return _read(given, number(theta, "rope_local_base_freq", where), config, family, where)


def _per_layer_kind(config: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    """The entry of a kind of layer; `rope_scaling`, the older form, is of those with full attention."""
    nested = config.get("rope_parameters") or {}
    if not isinstance(nested, dict) or nested.keys() - {LOCAL, GLOBAL}:
        raise ValueError(
            f"{where} has rope_parameters that are not by kind of layer; name {LOCAL} and {GLOBAL} there, each with its"
            " rope_theta and rope_type"
        )
    scaling = config.get("rope_scaling") or {}
    for part in (nested.get(kind) or {}, scaling):
        _check_flat(part, where)
    plain = {"rope_type": "default"}  # which only a `rope_type` replaces
    return (nested.get(kind) or plain) | (scaling if kind == GLOBAL else {})


def _check_flat(given: Any, where: str) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"{where} describes its rotary embedding by {str(given)[:60]}; it must be a mapping")
    if any(isinstance(value, dict) for value in given.values()):
        raise ValueError(
            f"{where} scales its rotary embedding differently for each kind of layer, which only Gemma 3 does; choose"
            " another model"
        )


def check_packed(config: dict[str, Any], where: str, length: int) -> None:
    """Raise ValueError where packed records would be computed otherwise than alone: longrope goes by the longest of the
    records that share a row."""
    switch = rope(config).switch
    if switch is not None and length > switch:
        raise ValueError(
            f"{where} is {length}, but the model's rotary embedding (longrope) changes above {switch} tokens, and short"
            f" records packed with longer ones would be computed otherwise than alone; choose at most {switch}"
        )


def check_documents(config: dict[str, Any], where: str, training: WithDocuments) -> None:
    """Raise ValueError where a document would be computed otherwise beside others than alone: as in `check_packed`."""
    switch = rope(config).switch
    longest = max(span.config.seq_length for span in training.spans)
    if training.document_mask and switch is not None and longest > switch:
        raise ValueError(
            f"{where}.document_mask is true for sequences of {longest} tokens, but the model's rotary embedding"
            f" (longrope) changes above {switch}, and a short document beside a longer one would be computed otherwise"
            f" than alone; choose sequences of at most {switch} or remove document_mask"
        )


def _read(given: dict[str, Any], theta: float, config: dict[str, Any], family: Family, where: str) -> Rope:
    kind = given.get("rope_type") or given.get("type") or "default"
    kind = family.renamed_ropes.get(str(kind), kind)
    if kind not in family.ropes:
        raise ValueError(
            f"{where} scales its rotary embedding by '{kind}'; supported for {family.title} are"
            f" {', '.join(family.ropes)}"
        )
    share = _share(given, config, family, where)
    values = _values(given, config, family)
    lists = LISTS if kind == "longrope" else ()
    if missing := [name for name in (*lists, *NUMBERS[kind]) if values.get(name) is None]:
        raise ValueError(f"{where} scales its rotary embedding by '{kind}' without {missing[0]}; add it")
    numbers = {name: number(values[name], name, where) for name in NUMBERS[kind]}
    for name in OPTIONAL if kind == "yarn" else OPTIONAL[:1] if kind == "longrope" else ():
        if values.get(name) is not None:
            number(values[name], name, where, least=0 if name.startswith("mscale") else None)
    for name in lists:
        _check_factors(values[name], name, int(_channels(config, where) * share) // 2, where)
    if lists and family.factors_by_hidden:
        _check_hidden(config, share, len(values[LISTS[0]]), where)
    if kind == "llama3" and numbers["high_freq_factor"] <= numbers["low_freq_factor"]:
        raise ValueError(
            f"{where} has high_freq_factor {numbers['high_freq_factor']:g}, which is not above low_freq_factor"
            f" {numbers['low_freq_factor']:g}; correct the rotary embedding"
        )
    return Rope(
        theta=theta,
        kind=kind,
        values=numbers,
        share=share,
        switch=int(numbers[ORIGINAL]) if kind == "longrope" else None,
    )


def _values(given: dict[str, Any], config: dict[str, Any], family: Family) -> dict[str, Any]:
    """The values of a scaling, with the original length that transformers takes: the one outside the scaling first."""
    outer = config.get(ORIGINAL) or family.defaults.get(ORIGINAL)
    return {ORIGINAL: config.get("max_position_embeddings")} | given | ({ORIGINAL: outer} if outer else {})


def _share(given: dict[str, Any], config: dict[str, Any], family: Family, where: str) -> float:
    share = given.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if share == 1.0:
        return 1.0
    if not family.partly_rotated:
        raise ValueError(f"{where} has partial_rotary_factor {share}; choose a model that rotates whole heads")
    share, channels = number(share, "partial_rotary_factor", where), _channels(config, where)
    if share > 1 or int(channels * share) % 2 or int(channels * share) < 2:
        raise ValueError(
            f"{where} has partial_rotary_factor {share:g}, which is {channels * share:g} of a head's {channels}"
            " channels; it must be an even number of them, at most all"
        )
    return share


def _channels(config: dict[str, Any], where: str) -> int:
    try:
        return width(config)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{where} gives its heads no width ({error}); download the model again") from error


def _check_factors(factors: Any, name: str, pairs: int, where: str) -> None:
    if not isinstance(factors, list) or len(factors) != pairs:
        found = f"{len(factors)} numbers" if isinstance(factors, list) else f"{factors!r}"[:60]
        raise ValueError(f"{where} has {found} in {name}; it must hold one for each of {pairs} pairs of channels")
    for factor in factors:
        number(factor, name, where)


def _check_hidden(config: dict[str, Any], share: float, pairs: int, where: str) -> None:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if int(hidden // heads * share) // 2 != pairs:
        raise ValueError(
            f"{where} has hidden_size {hidden} and num_attention_heads {heads}, which do not fit the {pairs} numbers of"
            f" {LISTS[0]}: hidden_size must be {width(config)} for each head, as for the model they were made for"
        )


def number(value: Any, name: str, where: str, least: float | None = None) -> float:
    """`value` as a number above 0, or with `least` of at least that."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or (value <= 0 if least is None else value < least):
        bound = "above 0" if least is None else f"of at least {least:g}"
        raise ValueError(f"{where} has {name} {value!r}; it must be a number {bound}")
    return float(value)


def row(config: Mapping[str, Any]) -> Family:
    """The row of a config.json; Llama's for one without a known model_type."""
    return FAMILIES.get(str(config.get("model_type")), FAMILIES["llama"])


def width(config: Mapping[str, Any]) -> int:
    """Width of one attention head, from the content of a config.json."""
    default = row(config).defaults.get("head_dim")
    return int(config.get("head_dim") or default or config["hidden_size"] // config["num_attention_heads"])
