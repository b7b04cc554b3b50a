"""What a study would do, without writing anything: the rounds whose results are in the store are gone through again,
and the next one is what would run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.plan import PlannedStage
from flows.rounds import Space, Trial, rounds
from flows.stopping import Comparing, Reached, Standing
from tasks.analysis.study.proposer import Result, Values
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
                    "tokens": trial.cost.tokens,
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
    comparing = Comparing(space)
    asked = next(source, [])
    while asked:
        standing = comparing.round(asked, lambda trials, place: _reached(comparing, trials, place))
        states = [_state(space, trial, standing) for trial in asked]
        known += [(trial, state) for trial, (state, _) in zip(asked, states, strict=True)]
        if any(result is None and not trial.refused for trial, (_, result) in zip(asked, states, strict=True)):
            break
        try:
            asked = source.send([result for _, result in states])
        except StopIteration as end:
            asked, ended = [], str(end.value)
    return PlannedStudy(stages=_stages(space, known), trials=known, sentences=_sentences(space, known, ended))


def _reached(comparing: Comparing, trials: list[Trial], place: int) -> Reached | None:
    """The values of trials at a point, if the store has all."""
    found = {trial.number: artifact for trial in trials if (artifact := comparing.stored(trial, place))}
    if len(found) < len(trials):
        return None
    return {number: comparing.value(artifact, place) for number, artifact in found.items()}


def _state(space: Space, trial: Trial, standing: Standing | None) -> tuple[str, Result]:
    """Whether a trial's results are in the store, and these."""
    if trial.recipe is None:
        return "refused", None
    if standing and (stopped := standing.stopped.get(trial.number)):
        return f"stopped after step {stopped.step:,}", stopped
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
    spent = sum(trial.cost.tokens for trial, _ in known)
    lines = [f"{len(known)} of at most {study.most} trials are known, with {spent:,} training tokens of their own."]
    if ended:
        lines.append(f"No more follow: {ended}.")
    elif len(known) < study.most:
        which = "come in order" if study.sampler == "grid" else "are chosen from the results of these"
        lines.append(f"The others {which}, {study.round} at a time.")
    if study.tokens:
        lines.append(f"study.tokens {study.tokens:,} may end it before.")
    if study.gpu_hours:
        hours = sum(trial.cost.gpu_hours for trial, _ in known)
        lines.append(f"study.gpu_hours {study.gpu_hours:g} may end it before; these have {hours:.3g}.")
    if study.stop:
        steps = ", ".join(f"{step:,}" for step in space.steps)
        lines.append(
            f"Trials that fall behind are stopped after step {steps} of {space.length:,} ({study.stop.rule}); what they"
            " then save is not counted here."
        )
    if study.fresh:
        lines.append(
            f"Then the best trial and the recipe are taught again with {study.fresh} fresh seeds each, and scored on"
            " the test split."
        )
    return lines
