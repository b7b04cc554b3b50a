"""The task that plays a search's candidates off against each other, by the rules of `field`, through ordinary
stages."""

from __future__ import annotations

from typing import Any

from prefect import task

from conf.stages.distill import DistillConfig
from conf.stages.search import SearchConfig
from tasks.analysis.halving import Entrant, Played, play
from tasks.stages.distill import distill
from tasks.stages.options import OPTIONS
from tasks.stages.prune import prune
from tasks.store.store import Artifact


@task(**OPTIONS)
def halving(
    label: str,
    student: str,
    config: SearchConfig,
    how: DistillConfig | None,
    *,
    found: Artifact,
    teacher: Artifact,
    data: Artifact,
    importance: Artifact,
) -> Played:
    """Play a student's candidates off against each other; the winner's stages are in the store, as everyone's are."""

    def cut(entrants: list[Entrant]) -> bool:
        waiting: list[Any] = [
            prune.submit(
                f"prune-{student}-c{entrant.number}", entrant.config, teacher=teacher, data=data, importance=importance
            )
            for entrant in entrants
        ]
        for entrant, future in zip(entrants, waiting, strict=True):
            entrant.pruned = entrant.model = future.result()
        return True

    def teach(entrants: list[Entrant], taught: DistillConfig, number: int) -> bool:
        waiting: list[Any] = []
        for entrant in entrants:
            assert entrant.model is not None
            label_ = f"distill-{student}-c{entrant.number}-r{number + 1}"
            waiting.append(
                distill.submit(
                    label_, taught, teacher=teacher, student=entrant.model, data=data, logits=None, mmlu=None
                )
            )
        for entrant, future in zip(entrants, waiting, strict=True):
            entrant.model = future.result()
        return True

    played = play(found, config, how, cut, teach)
    assert played is not None
    return played


@task(**OPTIONS)
def winner(label: str, played: Played, *, cut: bool) -> Artifact:
    """The winner as it was cut, or as the last round left it."""
    return played.pruned if cut else played.model
