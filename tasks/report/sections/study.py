"""The report's sections on a study: its trials, what each key does, and the best one with fresh seeds."""

from __future__ import annotations

from conf.benchmarks import BENCHMARKS
from conf.report.section import Section
from conf.report.study import ObjectiveEffects, StudyResult, StudyTrial
from conf.study import Objective
from conf.trials import shown

SHARES = ("mmlu", *BENCHMARKS)


def amount(metric: str, value: float, *, signed: bool = False, unit: bool = True) -> str:
    """A value of an objective with its unit, as people read it."""
    sign = "+" if signed else ""
    if metric in SHARES:
        return f"{value * 100:{sign}.1f}{(' points' if signed else '%') if unit else ''}"
    if metric == "bytes":
        return f"{value / 1e6:{sign},.2f}{' MB' if unit else ''}"
    if metric == "num_params":
        return f"{value:{sign},.0f}{' parameters' if unit else ''}"
    return f"{value:{sign}.4f}{' nats' if unit else ''}"


def sections(found: StudyResult) -> tuple[Section, ...]:
    """All sections of a study."""
    return (_trials(found), *(_effects(found, place) for place in range(len(found.effects))), *_fresh(found))


def _trials(found: StudyResult) -> Section:
    objectives = found.study.objectives
    pictures = {"history": "Each trial in the order of its choice; the line is the best so far, dashed the recipe."}
    if len(objectives) == 2:
        pictures = {"front": "Each trial by both objectives; filled: no other one is better in both."}
    if len(found.study.space) > 1:
        pictures["parallel"] = "A line for each trial through its values and its result, the darkest the best."
    failed = sum(trial.failed is not None for trial in found.trials)
    stopped = sum(trial.stopped is not None for trial in found.trials)
    early = f", {stopped} were stopped early" if stopped else ""
    return Section(
        title="Trials",
        sentences=(f"{len(found.trials)} trials, {failed} of which failed{early}.",),
        header=("trial", "round", *found.study.space, *(each.title for each in objectives), "own tokens"),
        rows=tuple(row(objectives, found, trial) for trial in found.trials),
        notes=(
            (
                "Losses are in nats per token on the validation split, so that the test split is left for the"
                " comparison at the end. A trial is the recipe with these values and its own seed: imbik run with"
                " them as overrides builds nothing anew but the scores on the test split."
            ),
        ),
        pictures=pictures,
    )


def row(objectives: tuple[Objective, ...], found: StudyResult, trial: StudyTrial) -> tuple[str, ...]:
    """A trial as cells of a table."""
    marked = " (best)" if trial.number == found.best else " (front)" if trial.on_front and found.best is None else ""
    ended = "failed"
    if trial.stopped:
        at = amount(objectives[0].by, trial.stopped.value)
        ended = f"stopped after step {trial.stopped.step:,} of {trial.stopped.steps:,} at {at}"
    results = (
        (ended, *[""] * (len(objectives) - 1))
        if trial.values is None
        else tuple(amount(each.by, value) for each, value in zip(objectives, trial.values, strict=True))
    )
    values = (shown(trial.point[key]) for key in found.study.space)
    return (f"t{trial.number}{marked}", str(trial.round), *values, *results, f"{trial.tokens:,}")


def _effects(found: StudyResult, place: int) -> Section:
    effects: ObjectiveEffects = found.effects[place]
    by = found.study.objectives[place].by
    title = f"What each key does to {effects.objective}"
    left_out = (f"{effects.left_out} trials far worse than the rest are left out.",) if effects.left_out else ()
    if effects.keys is None:
        return Section(title=title, sentences=("The trials are too few to tell the keys apart.", *left_out))
    rows = tuple(
        (
            each.key,
            f"{each.worst} → {each.best}",
            amount(by, each.effect, signed=True),
            f"{amount(by, each.low, signed=True, unit=False)} to {amount(by, each.high, signed=True, unit=False)}",
            "shown" if each.low > 0 or each.high < 0 else "not shown",
        )
        for each in effects.keys
    )
    return Section(
        title=title,
        sentences=left_out,
        header=("key", "from worst to best", "effect", "95% interval", "verdict"),
        rows=rows,
        notes=(
            (
                "From an additive model of the trials: a listed value has an effect of its own, a range a parabola."
                " Other keys are held equal, and what keys do only together is not seen. The intervals are from"
                " resampled trials, and wide enough that worst and best may be picked from the same trials."
            ),
        ),
    )


def _fresh(found: StudyResult) -> list[Section]:
    fresh = found.fresh
    if fresh is None:
        return []
    by = found.study.objectives[0].by
    rows = [
        (str(number), amount(by, ours), amount(by, theirs), amount(by, ours - theirs, signed=True))
        for number, (ours, theirs) in enumerate(zip(fresh.trial, fresh.recipe, strict=True), start=1)
    ]
    return [
        Section(
            title="With fresh seeds",
            sentences=tuple(line for line in found.sentences if line.startswith(("Taught again", "Its result"))),
            header=("seed", f"t{found.best}", "the recipe", "difference"),
            rows=tuple(rows),
            notes=(
                (
                    "The best of many trials is also the luckiest: its own seed and the text that chose it favour it."
                    " So it and the recipe are taught again with seeds that no trial had. The table is of the"
                    " validation split, the verdict of the test split, which chose nothing."
                ),
            ),
        )
    ]
