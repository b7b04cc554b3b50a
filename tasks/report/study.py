"""The report of a study: study.json, and the page that every run has."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from conf.files import write_whole
from conf.report.report import VERSION, Report
from conf.report.run import RunInfo
from conf.report.study import STUDY_VERSION, FreshSeeds, ObjectiveEffects, StudyResult, StudyTrial
from conf.study import Objective, StudyConfig
from conf.trials import described
from tasks.analysis.study.effects import effects, usual
from tasks.report.model import ReportModel
from tasks.report.provenance import provenance
from tasks.report.report import write
from tasks.report.rows import standalone_rows
from tasks.report.sections import study as parts
from tasks.report.sections.study import amount

NUMBERS = re.compile(r"\b(\d[\w.+-]*|nan|inf)")
STUDY = "study.json"
"""In the folder of a study's run."""


def best_of(objective: Objective, trials: Sequence[StudyTrial]) -> StudyTrial | None:
    """The best trial by one objective, of equal ones the first; None: all failed."""
    done = [trial for trial in trials if trial.values]
    sign = 1 if objective.lower else -1
    return min(done, key=lambda trial: (sign * _first(trial), trial.number), default=None)


def _first(trial: StudyTrial) -> float:
    assert trial.values is not None
    return trial.values[0]


def all_failed(trials: Sequence[StudyTrial]) -> str | None:
    """One sentence if no trial gave a result, with the most frequent reason."""
    failed = [trial.failed for trial in trials if trial.failed]
    stopped = sum(trial.stopped is not None for trial in trials)
    if not failed or len(failed) + stopped < len(trials):
        return None
    reason, count = most_frequent(failed)
    whole = " that were not stopped early" if stopped else ""
    return f"all {len(failed)} trials of the study{whole} failed, {count} of them like this: {reason}"


def most_frequent(reasons: Sequence[str]) -> tuple[str, int]:
    """The first reason of the kind that occurs most often, and how often; the numbers in them are no difference."""
    kinds = [NUMBERS.sub("0", reason) for reason in reasons]
    kind, count = Counter(kinds).most_common(1)[0]
    return reasons[kinds.index(kind)], count


def fronted(objectives: tuple[Objective, ...], trials: Sequence[StudyTrial]) -> tuple[StudyTrial, ...]:
    """The trials, marked where no other one is at least as good in every objective and better in one."""
    signs = [1 if objective.lower else -1 for objective in objectives]
    scored = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)]
              for trial in trials if trial.values}  # fmt: skip

    def beaten(ours: list[float]) -> bool:
        return any(all(a <= b for a, b in zip(one, ours, strict=True)) and one != ours for one in scored.values())

    return tuple(
        trial.model_copy(update={"on_front": trial.number in scored and not beaten(scored[trial.number])})
        for trial in trials
    )


def result(
    name: str,
    study: StudyConfig,
    recipe_values: tuple[float, ...] | None,
    trials: Sequence[StudyTrial],
    ended: str,
    fresh: FreshSeeds | None = None,
    told: str = "",
) -> StudyResult:
    """The result of a study; `told` is why the best trial was not taught again, as a sentence."""
    marked = fronted(study.objectives, trials)
    single = len(study.objectives) == 1
    best = best_of(study.objectives[0], marked) if single else None
    found = StudyResult(
        version=STUDY_VERSION,
        name=name,
        study=study,
        recipe_values=recipe_values,
        trials=marked,
        best=best.number if best else None,
        effects=tuple(_effects(study, place, marked) for place in range(len(study.objectives))),
        fresh=fresh,
        ended=ended,
        sentences=(),
    )
    return found.model_copy(update={"sentences": tuple(_sentences(found, told))})


def _effects(study: StudyConfig, place: int, trials: Sequence[StudyTrial]) -> ObjectiveEffects:
    objective = study.objectives[place]
    scored = [(trial.point, trial.values[place]) for trial in trials if trial.values]
    values = [value for _, value in scored]
    kept = usual(values, lower=objective.lower) if values else []
    keys = effects(
        study.space, [scored[index][0] for index in kept], [values[index] for index in kept], lower=objective.lower
    )
    return ObjectiveEffects(objective=objective.title, left_out=len(scored) - len(kept), keys=keys)


def _sentences(found: StudyResult, told: str) -> list[str]:
    failed = [trial.failed for trial in found.trials if trial.failed]
    count = f"{len(found.trials)} trials in {found.trials[-1].round if found.trials else 0} rounds: {found.ended}."
    lines = [count]
    if failed:
        reason, often = most_frequent(failed)
        lines.append(f"{len(failed)} trials failed, {often} of them like this: {reason}")
    objective = found.study.objectives[0]
    lines += _stopped_sentences(found, objective)
    if found.best is None:
        front = [f"t{trial.number}" for trial in found.trials if trial.on_front]
        both = " and ".join(each.title for each in found.study.objectives)
        return [*lines, f"No trial is better in both {both} than {', '.join(front)}: these are the front."]
    best = found.trials[found.best - 1]
    assert best.values is not None
    lines.append(f"The best is t{best.number} ({described(best.point)}): {objective.title} {_value(objective, best)}.")
    if found.recipe_values is not None:
        lines.append(f"The recipe as it is has {amount(objective.by, found.recipe_values[0])}.")
    return [*lines, *(_fresh_sentences(found, objective) if found.fresh else []), *([told] if told else [])]


def _stopped_sentences(found: StudyResult, objective: Objective) -> list[str]:
    """How many trials were stopped early, and what that saved."""
    stopped = [trial.stopped for trial in found.trials if trial.stopped]
    if found.study.stop is None:
        return []
    if not stopped:
        return ["No trial was stopped early."]
    steps = ", ".join(f"{step:,}" for step in sorted({each.step for each in stopped}))
    saved = sum(each.tokens_saved for each in stopped)
    spent = sum(trial.tokens for trial in found.trials)
    return [
        (
            f"{len(stopped)} trials were stopped early, after step {steps} of {stopped[0].steps:,}, as they fell behind"
            f" in {objective.by} ({found.study.stop.rule}): {saved:,} of {saved + spent:,} training tokens were not"
            " spent. They have no result and cannot be the best; a trial that starts slowly may be among them."
        )
    ]


def _value(objective: Objective, trial: StudyTrial) -> str:
    return amount(objective.by, _first(trial))


def _fresh_sentences(found: StudyResult, objective: Objective) -> list[str]:
    fresh = found.fresh
    assert fresh is not None
    luck = f"{amount(objective.by, abs(fresh.luck))} {'better' if fresh.luck > 0 else 'worse'} than"
    interval = "no interval" if fresh.ci95 is None else " to ".join(
        amount(objective.by, end, signed=True, unit=False) for end in fresh.ci95
    )  # fmt: skip
    lead = ""
    if found.recipe_values is not None and found.best is not None:
        ours, theirs = (sum(values) / len(values) for values in (fresh.trial, fresh.recipe))
        before = _first(found.trials[found.best - 1]) - found.recipe_values[0]
        lead = (
            f" Against the recipe it had {amount(objective.by, before, signed=True)} in the study and"
            f" {amount(objective.by, ours - theirs, signed=True)} with fresh seeds."
        )
    verdict = {
        "better": f"t{found.best} is better than the recipe",
        "worse": f"t{found.best} is worse than the recipe",
        "not shown": f"t{found.best} is not shown to be better than the recipe",
    }[fresh.verdict]
    return [
        (
            f"Taught again with {fresh.seeds} fresh seeds, {verdict}: on the test split"
            f" {amount(objective.by, fresh.difference, signed=True)} (95% {interval}, over seeds and {fresh.items}"
            f" {'questions' if objective.by not in ('val_loss', 'kl_teacher') else 'sequences'} together)."
        ),
        f"Its result in the study was {luck} its mean over fresh seeds:"
        f" {'so much of it was luck' if fresh.luck > 0 else 'it was not lucky'}.{lead}",
    ]


def write_study(
    folder: Path, found: StudyResult, description: str, models: list[ReportModel], run: RunInfo, stages: dict[str, str]
) -> Report:
    """Write study.json and the report: the recipe's model first, then those of the best trial or of the front."""
    from tasks.report.plots import study as plots

    rows = standalone_rows(models)
    verdict = [line for line in found.sentences if line.startswith(("Taught again", "No trial is"))]
    report = Report(
        version=VERSION,
        name=found.name,
        description=description,
        run=run,
        rows=rows,
        chance=rows[0].mmlu_chance,
        verdict=tuple(verdict or found.sentences[1:2]),
        summary=found.sentences,
        sections=parts.sections(found),
        provenance=provenance(models, stages),
    )
    write_whole(folder / STUDY, json.dumps(found.model_dump(mode="json"), indent=2) + "\n")
    return write(folder, report, plots.draw(found))


def read_study(folder: Path) -> StudyResult:
    """The result of a finished study."""
    return StudyResult.model_validate_json((folder / STUDY).read_text(encoding="utf-8"))
