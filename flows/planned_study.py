"""What a study would do, without writing anything: the rounds whose results are in the store are gone through again,
and the next one is what would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.plan import PlannedStage
from flows.rounds import Space, Trial, rounds
from tasks.analysis.study.proposer import Values
from tasks.report.study_fresh import value_of


@dataclass(frozen=True, kw_only=True)
class StudyStage:
    """A stage over all trials that are known: how often it is made, and how many of these are in the store."""

    label: str
    made: str
    cached: int
    pending: int


@dataclass(frozen=True, kw_only=True)
class PlannedStudy:
    """The stages and trials of a study that can be known now."""

    stages: list[StudyStage]
    trials: list[tuple[Trial, str]]
    sentences: list[str]

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "stages": [vars(stage) for stage in self.stages],
            "trials": [
                {
                    "trial": trial.mark,
                    "round": trial.round,
                    "point": trial.point,
                    "tokens": trial.tokens,
                    "refused": trial.refused or None,
                    "state": state,
                }
                for trial, state in self.trials
            ],
            "sentences": self.sentences,
        }


def planned(space: Space) -> PlannedStudy:
    """The rounds of a study as far as the results in the store decide them."""
    source, known, ended = rounds(space), list[tuple[Trial, str]](), ""
    asked = next(source, [])
    while asked:
        states = [_state(space, trial) for trial in asked]
        known += [
            (trial, "refused" if trial.refused else state) for trial, (state, _) in zip(asked, states, strict=True)
        ]
        if any(values is None and not trial.refused for trial, (_, values) in zip(asked, states, strict=True)):
            break
        try:
            asked = source.send([values for _, values in states])
        except StopIteration as end:
            asked, ended = [], str(end.value)
    return PlannedStudy(stages=_stages(space, known), trials=known, sentences=_sentences(space, known, ended))


def _state(space: Space, trial: Trial) -> tuple[str, Values | None]:
    """Whether a trial's results are in the store, and these."""
    if trial.recipe is None:
        return "refused", None
    pending = sum(not stage.cached for stage in trial.stages)
    if pending:
        return f"{pending} stages to run", None
    return "in the store", _values(space, trial)


def _values(space: Space, trial: Trial) -> Values:
    by_label = {stage.label: stage for stage in trial.stages}
    found = []
    for each in space.study.objectives:
        scores = by_label.get(f"judge-{each.model}-{each.by}") or by_label[f"evaluate-{each.model}"]
        found.append(value_of(str(space.root / scores.stage / scores.key), each))
    return tuple(found)


def _stages(space: Space, known: list[tuple[Trial, str]]) -> list[StudyStage]:
    """Every stage of the recipe, once where all known trials share it, else counted over them."""
    runs = [tuple(space.planned), *(trial.stages for trial, _ in known if trial.stages)]
    by_label: dict[str, dict[str, PlannedStage]] = {}
    for stages in runs:
        for stage in stages:
            by_label.setdefault(stage.label, {})[stage.key] = stage
    return [
        StudyStage(
            label=label,
            made="once" if len(found) == 1 else f"{len(found)} times",
            cached=sum(stage.cached for stage in found.values()),
            pending=sum(not stage.cached for stage in found.values()),
        )
        for label, found in by_label.items()
    ]


def _sentences(space: Space, known: list[tuple[Trial, str]], ended: str) -> list[str]:
    study = space.study
    spent = sum(trial.tokens for trial, _ in known)
    lines = [f"{len(known)} of at most {study.most} trials are known, with {spent:,} training tokens of their own."]
    if ended:
        lines.append(f"No more follow: {ended}.")
    elif len(known) < study.most:
        which = "come in order" if study.sampler == "grid" else "are chosen from the results of these"
        lines.append(f"The others {which}, {study.round} at a time.")
    if study.tokens:
        lines.append(f"study.tokens {study.tokens:,} may end it before.")
    if study.fresh:
        lines.append(
            f"Then the best trial and the recipe are taught again with {study.fresh} fresh seeds each, and scored on"
            " the test split."
        )
    return lines
