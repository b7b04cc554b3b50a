"""ModelOpt's Minitron, imported with or without Transformer Engine.

ModelOpt 0.44 and later imports Minitron only where Transformer Engine is installed, which needs CUDA: it registers that
library's layers, and no other attention, as those it can cut. Where it is missing, empty classes have their names while
ModelOpt is imported. No model has one of them: `dynamic_layers` registers the layers that ours have."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import modelopt.torch.prune  # what the next import would import beside it, without the names below  # noqa: F401
import torch

ENGINE = "transformer_engine"
LAYERS = (
    "TEColumnParallelGroupedLinear",
    "TEColumnParallelLinear",
    "TEDotProductAttention",
    "TELayerNormColumnParallelLinear",
    "TELinear",
    "TERowParallelGroupedLinear",
    "TERowParallelLinear",
)
"""Megatron's names of Transformer Engine's layers, which are no classes where that is missing."""


@contextlib.contextmanager
def engine_names() -> Iterator[None]:
    """Inside the block, Transformer Engine's names are classes; where it is installed, they are its own."""
    import megatron.core.extensions.transformer_engine as extension

    if extension.HAVE_TE:
        yield
        return
    package = ModuleType(ENGINE)
    package.pytorch = SimpleNamespace(**{name: _empty(name) for name in ("LayerNorm", "RMSNorm")})  # type: ignore[attr-defined]
    names: dict[str, Any] = {name: _empty(name) for name in LAYERS}
    sys.modules[ENGINE] = package  # what is imported below stays, which patch.dict would undo
    try:
        with patch.multiple(extension, **names):
            yield
    finally:
        del sys.modules[ENGINE]


def _empty(name: str) -> type[torch.nn.Module]:
    """A module with a forward of its own, by which ModelOpt tells classes apart."""
    return type(name, (torch.nn.Module,), {"forward": lambda self: None})


with engine_names():
    from modelopt.torch.nas.plugins.megatron import (
        NumAttentionHeadsHp,
        _DynamicSelfAttention,
        _DynamicTEProjRowParallelLinear,
        _DynamicTEQKVLayerNormColumnParallelLinear,
        _DynamicTransformerLayer,
    )
    from modelopt.torch.prune.plugins.mcore_minitron import (
        CandidateSubnet,
        ImportanceEstimatorRegistry,
        MCoreMinitronSearcher,
        drop_mcore_language_model_layers,
        get_mcore_minitron_config,
    )

__all__ = [
    "CandidateSubnet",
    "ImportanceEstimatorRegistry",
    "MCoreMinitronSearcher",
    "NumAttentionHeadsHp",
    "_DynamicSelfAttention",
    "_DynamicTEProjRowParallelLinear",
    "_DynamicTEQKVLayerNormColumnParallelLinear",
    "_DynamicTransformerLayer",
    "drop_mcore_language_model_layers",
    "get_mcore_minitron_config",
]
