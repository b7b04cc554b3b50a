"""How many tokens of each corpus a blend reads, stage by stage, and how often it reads each corpus for that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from conf.stages.blend import OWN, BlendConfig

Counts = dict[str, dict[str, Any]]
"""Of each corpus by name: its share (`weight`), `tokens` and `passes` in a stage, and `passes_so_far`."""


def stages_read(config: BlendConfig, total: int, held: dict[str, int]) -> list[dict[str, Any]]:
    """Every stage of a mix of `total` tokens: the tokens at which it ends, and what it reads of the corpora, which hold
    so many each. Raises ValueError for the first corpus that runs out and may not be repeated."""
    stages: list[dict[str, Any]] = []
    ends = [0.0, *(float(end) * total for end in config.ends)]
    read = dict.fromkeys(held, 0.0)
    for number, (stage, (start, end)) in enumerate(zip(config.stages, pairwise(ends), strict=True), start=1):
        counts: Counts = {}
        for name, weight in stage.shares(sorted(held)).items():
            tokens, before = weight * (end - start), read[name]
            read[name] += tokens
            if read[name] >= held[name] + 1 and config.exhausted == "refuse":
                raise ValueError(_runs_out(name, number, len(config.stages), held[name], before, tokens))
            if weight:
                counts[name] = {
                    "weight": weight,
                    "tokens": round(tokens),
                    "passes": round(tokens / held[name], 4),
                    "passes_so_far": round(read[name] / held[name], 4),
                }
        stages.append({"until": stage.until, "until_tokens": round(end), "sources": counts})
    return stages


def _runs_out(name: str, number: int, stages: int, held: int, before: float, tokens: float) -> str:
    return (
        f"the corpus {name} runs out in stage {number} of {stages} of the blend: it holds {held:,} tokens, of which the"
        f" stages before read {before:,.0f}, and this one reads {tokens:,.0f} more; lower"
        f" blend.stages.{number}.weights.{name} or the blend's tokens, or repeat it with blend.exhausted=repeat"
    )


def plain_part(config: BlendConfig, name: str, total: int, held: int) -> dict[str, Any]:
    """What a blend of `total` tokens reads of a corpus that holds so many. Raises ValueError where these are too few
    and it may not be repeated; a mix with stages has found that before."""
    weight = config.weights[name]
    requested = weight * total
    if abs(requested - held) < 1:  # the weights are fractions that no float holds exactly
        requested = held
    if requested > held and config.exhausted == "refuse" and not config.stages:
        setting = "blend.weight" if name == OWN else f"blend.sources.{name}.weight"
        raise ValueError(
            f"the corpus {name} holds {held:,} tokens but {weight:.1%} of the blend's {total:,} are {requested:,.0f};"
            f" lower {setting} or blend.tokens, or repeat it with blend.exhausted=repeat"
        )
    return {
        "name": name,
        "weight": weight,
        "tokens": round(requested),
        "held": held,
        "passes": round(requested / held, 4),
    }
