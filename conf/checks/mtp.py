"""Checks of multi-token prediction against the model that it is trained beside."""

from __future__ import annotations

from conf.shape import Shape, family
from conf.stages.training import Training


def check_heads(where: str, config: Training, shape: Shape, whose: str = "") -> None:
    """Raise ValueError for heads beside a model whose layers they cannot have; `where`: of the training settings."""
    if getattr(config, "mtp", None) is None:
        return
    own = family(shape)
    reasons = {
        "mixes experts": shape.num_experts is not None,
        "has norms after attention and MLP": own.sandwiched,
        "has layers without rotary embedding": own.unrotated,
        "has two rotary embeddings": own.local_theta is not None,
        "scales its residuals": own.multipliers,
        "caps its attention": own.attention_cap is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(
                f"{where}.mtp is set but the model{whose} is a {own.title}, which {reason}, and the heads' layers do"
                " not; remove mtp"
            )
