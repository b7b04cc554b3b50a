"""Successive halving: a search's best candidates are cut and taught a little, the better half goes on with twice the
tokens.

It owns the rules and who is left; every cut and every round of teaching is an ordinary stage, which the pipeline names.
Source of the method: arXiv 1502.07943; of the need for it: arXiv 2407.14679, section 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from conf.base import Config
from conf.cuts import prune_of, round_of
from conf.report.pruning import ScoredShape, SearchCandidate, SearchRound
from conf.stages.distill import DistillConfig
from conf.stages.prune import PruneConfig
from conf.stages.search import SearchConfig
from tasks.store.store import Artifact


@dataclass
class Candidate:
    """A candidate on its way: its number in search.json, from 1, what makes it, and what each round left of it."""

    number: int
    config: PruneConfig
    scores: dict[str, Any]
    pruned: Artifact | None = None
    model: Artifact | None = None
    losses: list[float] = field(default_factory=list)


class HalvingResult(Config):
    """The winner's cut and its last model; every candidate with its losses by round; steps and tokens of each round."""

    winner: int
    pruned: Artifact
    model: Artifact
    candidates: tuple[SearchCandidate, ...]
    rounds: tuple[SearchRound, ...]
    teacher: ScoredShape


@dataclass(frozen=True)
class HalvingProgress:
    """How far it is: whether the candidates are chosen, the rounds whose stages are known, and at the end the
    result."""

    chosen: bool = False
    rounds: int = 0
    result: HalvingResult | None = None


class Reading(Protocol):
    """What is asked of a run or a plan on the way."""

    def artifacts(self, handles: list[Any]) -> list[Artifact]: ...
    def known(self, handles: list[Any]) -> bool: ...


Cut = Callable[[Candidate], Any]
Teach = Callable[[Candidate, DistillConfig, int], Any]
"""The stage that cuts a candidate, or that teaches it in a round, from 1."""


def successive_halving(
    found: Artifact, config: SearchConfig, distill: DistillConfig | None, cut: Cut, teach: Teach, reading: Reading
) -> HalvingProgress:
    """Run all rounds over the candidates of a search, as far as their outcomes are known."""
    content = json.loads((Path(found.path) / "search.json").read_text())
    candidates = _candidates(content, config)
    left = candidates[: config.halving.top_k]
    for one, artifact in zip(left, reading.artifacts([cut(one) for one in left]), strict=True):
        one.pruned = one.model = artifact
    rounds: list[SearchRound] = []
    for number, size in enumerate(config.halving.sizes(len(candidates)), start=1):
        assert distill is not None, "conf.cuts has refused a search that is not distilled"
        taught, left = round_of(distill, config.halving, number - 1), left[:size]
        handles = [teach(one, taught, number) for one in left]
        if not reading.known(handles):
            return HalvingProgress(chosen=True, rounds=number)
        for one, artifact in zip(left, reading.artifacts(handles), strict=True):
            one.model = artifact
            one.losses.append(last_loss(Path(artifact.path)))
        left.sort(key=lambda one: (one.losses[-1], one.number))
        rounds.append(SearchRound(steps=taught.steps, tokens=taught.tokens, candidates=size))
    winner = left[0]
    assert winner.pruned is not None and winner.model is not None
    result = HalvingResult(
        winner=winner.number,
        pruned=winner.pruned,
        model=winner.model,
        candidates=tuple(
            SearchCandidate.model_validate(one.scores | {"number": one.number, "losses": one.losses})
            for one in candidates
        ),
        rounds=tuple(rounds),
        teacher=ScoredShape.model_validate(content["teacher"]),
    )
    return HalvingProgress(chosen=True, rounds=len(rounds), result=result)


def _candidates(content: dict[str, Any], config: SearchConfig) -> list[Candidate]:
    """Everyone that was scored, best first."""
    whole = content["teacher"]["shape"]
    candidates = [
        Candidate(number=number, config=prune_of(config, scores["shape"], whole), scores=scores)
        for number, scores in enumerate(content["candidates"], start=1)
    ]
    return sorted(candidates, key=lambda one: (one.scores["val_loss"], one.number))


def last_loss(taught: Path) -> float:
    """The validation loss with which a distillation ended, in nats per token."""
    lines = [json.loads(line)["values"] for line in (taught / "metrics.jsonl").read_text().splitlines()]
    return float([values["val_loss"] for values in lines if "val_loss" in values][-1])
