"""What a config.json says of a mixture of experts: how many there are, how many a token takes, and a refusal of what
this pipeline does not compute.

Owns the meaning of these fields; conf/families.py has their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conf.families import family_of
from conf.family import Family

COUNTS = ("num_experts", "num_local_experts")
"""Names of one number: transformers 5 writes the second for every family and reads both, engines read their family's
own."""
SHARED = ("shared_expert_intermediate_size", "n_shared_experts", "num_shared_experts")
"""Fields of experts that all tokens share."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The experts of a layer, how many of them a token takes, their width, whether the weights of a token's experts add
    up to 1, and the coefficient of the loss that balances them."""

    count: int
    chosen: int
    width: int
    normalized: bool
    balance: float


def mixture(config: dict[str, Any]) -> Mixture | None:
    """The experts of a completed config; None for a dense model."""
    experts = family_of(config).experts
    if experts is None:
        return None
    return Mixture(
        count=config[experts.count],
        chosen=config["num_experts_per_tok"],
        width=config[experts.width],
        normalized=experts.normalized or bool(config["norm_topk_prob"]),
        balance=float(config["router_aux_loss_coef"]),
    )


def mixed(config: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    """The number of experts under all its names, from a config with defaults for its other fields; empty for a dense
    family. Raises ValueError, which calls it `where`, for a mixture that this pipeline does not compute."""
    experts = family.experts
    if experts is None:
        return {}
    given = {name: config[name] for name in COUNTS if config.get(name) is not None}
    if len(set(map(str, given.values()))) > 1:
        told = " and ".join(f"{name} {value}" for name, value in given.items())
        raise ValueError(f"{where} has {told}, which are two names of one number; correct one of them")
    count = next(iter(given.values()), experts.absent)
    whole = config | dict.fromkeys(COUNTS, count)
    for name in (experts.count, experts.width, "num_experts_per_tok"):
        if isinstance(whole[name], bool) or not isinstance(whole[name], int) or whole[name] < 1:
            raise ValueError(f"{where} has {name} {whole[name]!r}; it must be a whole number above 0")
    chosen = whole["num_experts_per_tok"]
    if chosen > count:
        raise ValueError(f"{where} lets a token take {chosen} experts, but a layer has {count}; correct one of them")
    _check_layers(config, where)
    if chosen == 1 and (experts.normalized or config["norm_topk_prob"]):
        raise ValueError(
            f"{where} lets a token take 1 expert, whose weight is always 1, so that its router learns nothing; this is"
            " not supported, choose a model whose tokens take more"
        )
    return dict.fromkeys(COUNTS, count)


def _check_layers(config: dict[str, Any], where: str) -> None:
    """Raise ValueError for layers of other kinds, experts that are not routed to, and noise."""
    for name, plain in (("decoder_sparse_step", 1), ("mlp_only_layers", [])):
        if config.get(name) not in (None, plain):
            raise ValueError(
                f"{where} has {name} {config[name]}: some layers have no experts, which is not supported; choose a"
                " model with experts in every layer"
            )
    if shared := [name for name in SHARED if config.get(name)]:
        raise ValueError(
            f"{where} has {shared[0]} {config[shared[0]]}, experts that all tokens share, which are not supported;"
            " choose a model without them"
        )
    if config.get("router_jitter_noise"):
        raise ValueError(
            f"{where} sets router_jitter_noise {config['router_jitter_noise']}, which training here would not add; set"
            " it to 0"
        )
    if config.get("use_sliding_window"):
        raise ValueError(
            f"{where} sets use_sliding_window, which is not supported beside experts; choose full attention"
        )
