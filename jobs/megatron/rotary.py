"""Rotary embeddings that Megatron's own class does not compute: frequencies by transformers' functions, factors on
cosines and sines, and a second embedding for layers with a window.

Owns the tables; conf/rotary.py says what a config.json may ask for."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.models.common.embeddings.yarn_rotary_pos_embedding import _yarn_get_concentration_factor_from_config
from megatron.core.models.gpt import GPTModel

from conf.hf_config import head_dim
from conf.rotary import ORIGINAL, Rope, local_rope, rope
from conf.stages.phases import Phase
from jobs.huggingface import model as hf
from jobs.megatron.weights import HEADS

FACTORS = ("yarn_rotary_scaling_factor", "yarn_mscale", "yarn_mscale_all_dim")
"""Where Megatron reads a factor on cosines and sines, in an attribute that is there only if it is not 1."""
READ_ONCE = "_yarn_concentration_factor"
"""Where an attention layer keeps that factor."""

PLAIN = ("default", "dynamic")
"""Kinds without a scaling, for sequences up to max_position_embeddings."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Frequencies [pairs of channels] in fp32: those of longer sequences than `switch` may be others."""

    short: torch.Tensor
    long: torch.Tensor | None = None
    switch: int | None = None

    def angles(self, length: int, offset: int) -> torch.Tensor:
        """Angles of positions from `offset` [length, 1, 1, channels]."""
        frequencies = self.long if self.long is not None and length > (self.switch or 0) else self.short
        positions = torch.arange(length, dtype=torch.float32) + offset
        angles = torch.outer(positions, frequencies)
        return torch.cat([angles, angles], dim=-1)[:, None, None]


class Rotary(RotaryEmbedding):
    """Megatron's rotary embedding with tables of its own, side by side in the last dimension."""

    def __init__(self, width: int, tables: list[Table]) -> None:
        super().__init__(kv_channels=width, rotary_percent=1.0, use_cpu_initialization=True)
        self.tables = tables

    def get_emb(self, max_seq_len: int, offset: int = 0) -> torch.Tensor:
        """Angles before context-parallel ranks take their part."""
        angles = torch.cat([table.angles(max_seq_len, offset) for table in self.tables], dim=-1)
        return angles.to(torch.cuda.current_device())


def install(model: GPTModel, config: dict[str, Any]) -> None:
    """Give `model` the rotary embedding of `config`, where it is not the plain one that it was built with."""
    own, local = rope(config), local_rope(config)
    if own.kind == "llama3":  # GPTModel takes the factor alone and fixes the other three values at Llama 3.1's
        embedding = model.rotary_pos_emb
        embedding.inv_freq = embedding._apply_scaling(embedding.inv_freq, **own.values)
        return
    if own.kind in PLAIN and own.share == 1 and local is None:
        return
    tables = [_table(config, own)] + ([_table(config, local)] if local else [])
    model.rotary_pos_emb = Rotary(head_dim(config), tables)
    _set_factor(model.config, _factor(config, own))
    _tell_attention(model)


def change(model: GPTModel, config: dict[str, Any], phase: Phase, length: int) -> None:
    """Give `model` the rotary embedding of a phase with sequences of `length`, and change its `config` so that it
    describes the model."""
    given = config.get("rope_scaling") or config.get("rope_parameters") or {}
    before, theta = config["max_position_embeddings"], phase.rope_theta or rope(config).theta
    scaling = {name: value for name, value in given.items() if name != "rope_theta"}
    if phase.rope_scaling:
        scaling = phase.rope_scaling.model_dump(exclude_none=True)
        if scaling["rope_type"] != "linear":
            scaling = {ORIGINAL: before} | scaling
    if phase.turns:
        config.pop("rope_parameters", None)
        config.pop("rope_scaling", None)
        config |= {"rope_theta": theta} | ({"rope_scaling": scaling} if scaling else {})
    config["max_position_embeddings"] = max(before, length)
    model.rotary_pos_emb = RotaryEmbedding(
        kv_channels=head_dim(config), rotary_percent=1.0, rotary_base=theta, use_cpu_initialization=True
    )
    _clear_factor(model.config)
    install(model, config)
    _tell_heads(model)
    _tell_attention(model)


def kept(model: GPTModel) -> tuple[Any, dict[str, float]]:
    """The rotary embedding of `model` before `change`, for `restore`."""
    return getattr(model, "rotary_pos_emb", None), _factor_of(model.config)


def restore(model: GPTModel, kept: tuple[Any, dict[str, float]]) -> None:
    """Give `model` back what `kept` gave."""
    model.rotary_pos_emb, factor = kept
    _clear_factor(model.config)
    vars(model.config).update(factor)
    _tell_heads(model)
    _tell_attention(model)


def _tell_heads(model: GPTModel) -> None:
    """Heads for later tokens have a config of their own, whose factor is the model's."""
    for head in getattr(model, HEADS, ()):
        _clear_factor(head.config)
        vars(head.config).update(_factor_of(model.config))


def _tell_attention(model: GPTModel) -> None:
    """Megatron-Core 0.19 keeps the factor that its config had when a layer was built; before, it was read each time."""
    for module in model.modules():
        if hasattr(module, READ_ONCE):
            setattr(module, READ_ONCE, _yarn_get_concentration_factor_from_config(module.config))


def _factor_of(transformer: Any) -> dict[str, float]:
    return {name: value for name, value in vars(transformer).items() if name in FACTORS}


def _clear_factor(transformer: Any) -> None:
    for name in FACTORS:
        vars(transformer).pop(name, None)


def _table(config: dict[str, Any], own: Rope) -> Table:
    if own.kind in PLAIN:
        channels = int(head_dim(config) * own.share)
        return Table(short=1.0 / (own.theta ** (torch.arange(0, channels, 2, dtype=torch.float32) / channels)))
    if own.kind == "linear":
        plain = _table(config, Rope(theta=own.theta, share=own.share)).short
        return Table(short=plain / own.values["factor"])
    if own.switch is None:
        return Table(short=_theirs(config, own)[0])
    return Table(short=_theirs(config, own)[0], long=_theirs(config, own, own.switch + 1)[0], switch=own.switch)


def _factor(config: dict[str, Any], own: Rope) -> float:
    """The factor on cosines and sines."""
    return 1.0 if own.kind in (*PLAIN, "linear") else _theirs(config, own)[1]


def _theirs(config: dict[str, Any], own: Rope, length: int | None = None) -> tuple[torch.Tensor, float]:
    """transformers' frequencies and factor for sequences of `length` tokens."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    settings, _ = hf.described(Path(), copy.deepcopy(config))  # it adds to the mapping that it is given
    frequencies, factor = ROPE_INIT_FUNCTIONS[own.kind](settings, torch.device("cpu"), seq_len=length)
    return frequencies, float(factor)


def _set_factor(transformer: Any, factor: float) -> None:
    """Megatron reads the factor as YaRN's concentration, (a x ln(s) / 10 + 1) / (b x ln(s) / 10 + 1) with a =
    yarn_mscale, b = yarn_mscale_all_dim and s = yarn_rotary_scaling_factor; with s = e^10 and b = 0 it is a + 1."""
    if factor != 1.0:
        transformer.yarn_rotary_scaling_factor = math.exp(10)
        transformer.yarn_mscale, transformer.yarn_mscale_all_dim = factor - 1.0, 0.0
