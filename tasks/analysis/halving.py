"""Successive halving: the best candidates of a search are cut and distilled briefly; in each round the better half
continues with twice the tokens.

It decides which candidates continue; every cut and every distillation is an ordinary stage of the pipeline.
Source of the method: arXiv 1502.07943; why it is needed: arXiv 2407.14679, section 4.
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
    """A candidate: its number in search.json, from 1, its pruning, its scores there, and its models and losses so
    far."""

    number: int
    config: PruneConfig
    scores: dict[str, Any]
    pruned: Artifact | None = None
    model: Artifact | None = None
    losses: list[float] = field(default_factory=list)


class HalvingResult(Config):
    """The winner's pruned model and its last distilled one; every candidate with its losses by round; the rounds."""

    winner: int
    pruned: Artifact
    model: Artifact
    candidates: tuple[SearchCandidate, ...]
    rounds: tuple[SearchRound, ...]
    teacher: ScoredShape


@dataclass(frozen=True)
class HalvingProgress:
    """Progress: whether the candidates are chosen, the number of rounds whose stages are known, and the final
    result."""

    chosen: bool = False
    rounds: int = 0
    result: HalvingResult | None = None


class Reading(Protocol):
    """What successive halving needs of a run or a plan: the artifacts of stages, and whether they are known."""

    def artifacts(self, handles: list[Any]) -> list[Artifact]: ...
    def known(self, handles: list[Any]) -> bool: ...


Cut = Callable[[Candidate], Any]
Teach = Callable[[Candidate, DistillConfig, int], Any]
"""The stage that prunes a candidate, or that distills it in a round, from 1."""


def successive_halving(
    search: Artifact, config: SearchConfig, distill: DistillConfig | None, cut: Cut, teach: Teach, reading: Reading
) -> HalvingProgress:
    """Run all rounds over the candidates of a search, as far as the artifacts of their stages are known."""
    content = json.loads((Path(search.path) / "search.json").read_text())
    candidates = _candidates(content, config)
    remaining = candidates[: config.halving.top_k]
    for candidate, artifact in zip(remaining, reading.artifacts([cut(each) for each in remaining]), strict=True):
        candidate.pruned = candidate.model = artifact
    rounds: list[SearchRound] = []
    for number, size in enumerate(config.halving.sizes(len(candidates)), start=1):
        assert distill is not None, "conf.cuts refuses a search without distillation"
        round_config, remaining = round_of(distill, config.halving, number - 1), remaining[:size]
        handles = [teach(candidate, round_config, number) for candidate in remaining]
        if not reading.known(handles):
            return HalvingProgress(chosen=True, rounds=number)
        for candidate, artifact in zip(remaining, reading.artifacts(handles), strict=True):
            candidate.model = artifact
            candidate.losses.append(last_loss(Path(artifact.path)))
        remaining.sort(key=lambda candidate: (candidate.losses[-1], candidate.number))
        rounds.append(SearchRound(steps=round_config.steps, tokens=round_config.tokens, candidates=size))
    result = _result(remaining[0], candidates, rounds, ScoredShape.model_validate(content["teacher"]))
    return HalvingProgress(chosen=True, rounds=len(rounds), result=result)


def _result(
    winner: Candidate, candidates: list[Candidate], rounds: list[SearchRound], teacher: ScoredShape
) -> HalvingResult:
    assert winner.pruned is not None and winner.model is not None
    return HalvingResult(
        winner=winner.number,
        pruned=winner.pruned,
        model=winner.model,
        candidates=tuple(
            SearchCandidate.model_validate(each.scores | {"number": each.number, "losses": each.losses})
            for each in candidates
        ),
        rounds=tuple(rounds),
        teacher=teacher,
    )


def _candidates(content: dict[str, Any], config: SearchConfig) -> list[Candidate]:
    """All scored candidates, the lowest loss first; of equal losses the lower number."""
    teacher_shape = content["teacher"]["shape"]
    candidates = [
        Candidate(number=number, config=prune_of(config, scores["shape"], teacher_shape), scores=scores)
        for number, scores in enumerate(content["candidates"], start=1)
    ]
    return sorted(candidates, key=lambda candidate: (candidate.scores["val_loss"], candidate.number))


def last_loss(distilled: Path) -> float:
    """The last validation loss of a distillation, in nats per token."""
    lines = [json.loads(line)["values"] for line in (distilled / "metrics.jsonl").read_text().splitlines()]
    return float([values["val_loss"] for values in lines if "val_loss" in values][-1])
