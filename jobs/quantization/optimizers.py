"""The optimizers of quantization-aware distillation, which trains transformers' model in one process: AdamW for all
weights, or Muon for the matrices inside layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from conf.hf_config import head_dim, key_value_heads
from conf.stages.qad import QADConfig
from jobs.runtime.muon import LR_SCALE, Muon, Split

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MATRIX = re.compile(r"model\.layers\.\d+\.\w+\.(\w+)\.weight")


def optimizers_of(model: PreTrainedModel, config: QADConfig) -> list[torch.optim.Optimizer]:
    """One optimizer, or two that share the weights."""
    named, decay = dict(model.named_parameters()), config.optimizer.embedding_weight_decay
    groups: dict[str, list[torch.Tensor]] = {"matrices": [], "vectors": [], "embeddings": []}
    inside: list[tuple[str, torch.Tensor]] = []
    for name, parameter in named.items():
        found = MATRIX.fullmatch(name) if config.optimizer.name == "muon" and parameter.dim() == 2 else None
        if found:
            inside.append((found[1], parameter))
        elif parameter.dim() <= 1:
            groups["vectors"].append(parameter)
        else:
            embedding = decay is not None and name == "model.embed_tokens.weight"
            groups["embeddings" if embedding else "matrices"].append(parameter)
    decays = {"matrices": config.weight_decay, "vectors": 0.0, "embeddings": decay}
    adamw = torch.optim.AdamW(
        [{"params": weights, "weight_decay": decays[name]} for name, weights in groups.items() if weights],
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
    )
    if not inside:
        return [adamw]
    for group in adamw.param_groups:
        group[LR_SCALE] = config.optimizer.adamw_lr_scale
    splits = _splits(model.config.to_dict(), per_head=bool(config.optimizer.per_head))
    muon = Muon(
        [{"params": [weight]} | ({"split": splits[name]} if name in splits else {}) for name, weight in inside],
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.optimizer.muon_momentum,
        iterations=config.optimizer.muon_iterations,
        dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32,
    )
    return [muon, adamw]


def _splits(config: dict[str, Any], *, per_head: bool) -> dict[str, Split]:
    """The matrices of each projection that stores several, from the content of a config.json."""
    queries, keys, width = config["num_attention_heads"], key_value_heads(config), head_dim(config)

    def heads(part: torch.Tensor) -> torch.Tensor:
        return part.unflatten(0, (1, -1, width)) if per_head else part

    splits: dict[str, Split] = {
        "qkv_proj": lambda tensor: [
            heads(part) for part in tensor.split([queries * width, keys * width, keys * width])
        ],
        "gate_up_proj": lambda tensor: list(tensor.chunk(2)),
    }
    return splits | {f"{part}_proj": lambda tensor: [heads(tensor)] for part in "qkv"}
