"""Successive halving: a search's best candidates are cut and taught a little, the better half goes on with twice the
tokens.

It owns the rules and who is left; every cut and every round of teaching is an ordinary stage, made by whoever calls it:
`halving` makes them, a plan only looks them up. Source of the method: arXiv 1502.07943; of the need for it: arXiv
2407.14679, section 4."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.base import Config
from conf.cuts import prune_of, round_of
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from tasks.store.store import Artifact


@dataclass
class Entrant:
    """A candidate on its way: its number in search.json, from 1, what makes it, and what each round left of it."""

    number: int
    config: PruneConfig
    found: dict[str, Any]
    pruned: Artifact | None = None
    model: Artifact | None = None
    losses: list[float] = field(default_factory=list)


class Played(Config):
    """How it went: the winner's cut and its last model, every candidate with its losses by round, steps and tokens of
    each round."""

    winner: int
    pruned: Artifact
    model: Artifact
    candidates: list[dict[str, Any]]
    rounds: list[dict[str, int]]
    teacher: dict[str, Any]


Cut = Callable[[list[Entrant]], bool]
Teach = Callable[[list[Entrant], DistillConfig, int], bool]
"""Make, or look up, the stages of some entrants and set their artifacts; False where an outcome is not known yet."""


def play(found: Artifact, config: SearchConfig, how: DistillConfig | None, cut: Cut, teach: Teach) -> Played | None:
    """Play all rounds over the candidates of a search; None as soon as an outcome is not known."""
    content = json.loads((Path(found.path) / "search.json").read_text())
    field_ = _entrants(content, config)
    left = field_[: config.halving.top_k]
    if not cut(left):
        return None
    rounds = []
    for number, size in enumerate(config.halving.fields(len(field_))):
        assert how is not None, "conf.cuts has refused a search that is not distilled"
        taught, left = round_of(how, config.halving, number), left[:size]
        if not teach(left, taught, number):
            return None
        for entrant in left:
            assert entrant.model is not None
            entrant.losses.append(last_loss(Path(entrant.model.path)))
        left.sort(key=lambda entrant: (entrant.losses[-1], entrant.number))
        rounds.append({"steps": taught.steps, "tokens": taught.tokens, "entrants": size})
    winner = left[0]
    assert winner.pruned is not None and winner.model is not None
    told = [entrant.found | {"number": entrant.number, "losses": entrant.losses} for entrant in field_]
    return Played(
        winner=winner.number,
        pruned=winner.pruned,
        model=winner.model,
        candidates=told,
        rounds=rounds,
        teacher=content["teacher"],
    )


def _entrants(content: dict[str, Any], config: SearchConfig) -> list[Entrant]:
    """Everyone that was scored, best first."""
    whole = content["teacher"]["shape"]
    field_ = [
        Entrant(number=number, config=prune_of(config, candidate["shape"], whole), found=candidate)
        for number, candidate in enumerate(content["candidates"], start=1)
    ]
    return sorted(field_, key=lambda entrant: (entrant.found["val_loss"], entrant.number))


def last_loss(taught: Path) -> float:
    """The validation loss with which a distillation ended, in nats per token."""
    lines = [json.loads(line)["values"] for line in (taught / "metrics.jsonl").read_text().splitlines()]
    return float([values["val_loss"] for values in lines if "val_loss" in values][-1])
