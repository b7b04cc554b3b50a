"""The report of a run: all models side by side, as report.json, report.md and a self-contained report.html.

It reads sealed artifacts and computes what they mean. The content of the report is `conf.report`; figures are drawn in
`plots`, text and page in `render`.
"""

from __future__ import annotations

import json
from pathlib import Path

from conf.files import write_whole
from conf.recipe import Recipe
from conf.report.report import VERSION, Report
from conf.report.section import Section
from tasks.analysis import ladder, winner
from tasks.report import sections as parts
from tasks.report.model import NO_EXTRAS, ReportModel, RunExtras
from tasks.report.provenance import provenance
from tasks.report.rows import recipe_rows
from tasks.report.summary import summary
from tasks.report.verdict import verdict
from tasks.store.runs import REPORT, read_report


def write_report(
    folder: Path, name: str, recipe: Recipe, models: list[ReportModel], extras: RunExtras = NO_EXTRAS
) -> Report:
    """Write the report of a run into its folder, each file completely or not at all, and return it."""
    from tasks.report.plots import overview, quantization, speed

    report = with_speeds(folder, make_report(name, recipe, models, extras))
    return write(folder, report, overview.draw(report) | quantization.draw(report.quantized) | speed.draw(report))


def with_speeds(folder: Path, report: Report) -> Report:
    """The report with what was measured of its models since, in the run's folder."""
    found = report.model_copy(update={"speeds": parts.speed.read_speeds(folder, report.rows)})
    others = tuple(one for one in report.sections if one.title != parts.speed.TITLE)
    added = parts.speed.section(found)
    return found.model_copy(update={"sections": (*others, added) if added else others})


def refresh(folder: Path) -> Report:
    """Write a finished run's report again, with what was measured of its models since."""
    from tasks.report.plots import speed

    report = with_speeds(folder, read_report(folder))
    drawn = {file.stem: file.read_text(encoding="utf-8") for file in sorted((folder / "plots").glob("*.svg"))}
    return write(folder, report, {**drawn, **speed.draw(report)})


def write(folder: Path, report: Report, figures: dict[str, str]) -> Report:
    """Write a report's files and its figures (SVG by name), each completely or not at all, and return the report."""
    from tasks.report import render

    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for title, svg in figures.items():
        write_whole(folder / "plots" / f"{title}.svg", svg)
    write_whole(folder / "report.md", render.markdown(report, figures))
    write_whole(folder / "report.html", render.html(report, figures))
    write_whole(folder / REPORT, json.dumps(report.model_dump(mode="json"), indent=2) + "\n")
    return report


def make_report(name: str, recipe: Recipe, models: list[ReportModel], extras: RunExtras = NO_EXTRAS) -> Report:
    """The report of a run; `models` are all measured models, the teacher first."""
    scores = {model.model: model.scores for model in models}
    judged = {model.model: model.benchmarks for model in models}
    measured = _measured(name, recipe, models, extras)
    claims = parts.claims.decide(recipe, measured.rows, scores, judged)
    decided = measured.model_copy(update={"claims": claims, "winner": winner.choose(recipe, measured, scores, judged)})
    leaked = parts.contamination.summary(measured.contamination)
    sentences = (*summary(decided), *leaked, *([decided.winner.sentence] if decided.winner else []))
    return decided.model_copy(
        update={
            "summary": sentences,
            "sections": _sections(recipe, decided),
            "verdict": verdict(recipe, decided),
        }
    )


def _measured(name: str, recipe: Recipe, models: list[ReportModel], extras: RunExtras) -> Report:
    """What was measured and kept, before anything is decided about models or said of them."""
    rows = recipe_rows(recipe, models)
    scored = parts.benchmarks.read_benchmarks(models)
    distilled = {model.model: model.training for model in models if model.stage == "distill" and model.training}
    pruned = {model.model: model.path for model in models if model.stage == "prune"}
    quantized = {model.model: str(Path(model.path).parent) for model in models if model.stage == "quantize"}
    return Report(
        version=VERSION,
        name=name,
        description=recipe.description,
        rows=rows,
        chance=rows[0].mmlu_chance,
        curves={model: parts.learning.read_curve(folder) for model, folder in distilled.items()},
        learning={model: parts.learning.read_learning(folder) for model, folder in distilled.items()},
        phases=parts.phases.read_phases(models),
        documents=parts.documents.read_documents(models),
        gradients=parts.gradients.read_gradients(models),
        layer_importance=_layer_importance(extras.importance),
        texts=parts.text.read_text(extras.stages),
        mix=parts.mix.read_mix(extras.stages),
        written=parts.mix.read_written(extras.stages),
        benchmarks=scored,
        long_text=parts.long_text.read_long_text(models),
        contamination=parts.contamination.read_contamination(extras.contamination, models),
        responses=parts.responses.read_responses(recipe, models, extras.generated),
        logits=parts.logits.read_logits(extras.logits),
        gates=extras.gates,
        stopped=extras.stopped,
        cuts=parts.pruning.read_cuts(pruned),
        sweep=parts.pruning.read_sweep(extras.sweep),
        rounds={student: len(config.rounds) for student, config in recipe.students.items() if config.rounds},
        searches={student: parts.pruning.ranked_search(result) for student, result in extras.searches.items()},
        quantized=parts.quantization.read_quantized(quantized),
        verified=parts.verification.read_verified(models),
        provenance=provenance(models, extras.stages),
        run=extras.run,
        ladder=ladder.choose_format(recipe, rows, scored),
    )


def _sections(recipe: Recipe, report: Report) -> tuple[Section, ...]:
    """The sections after the main table; those without content are left out."""
    sections = [
        *parts.search.sections(report.searches),
        *parts.rounds.sections(report),
        parts.sweep.section(report.sweep),
        parts.pruning.section(report.cuts),
        parts.text.section(report.texts),
        parts.mix.section(report.mix, report.written),
        *parts.filters.sections(report.texts),
        parts.planted.section(report.texts),
        parts.benchmarks.section(report.benchmarks),
        *parts.long_text.sections(report.long_text),
        parts.contamination.section(report.contamination),
        parts.claims.section(report.claims),
        parts.learning.section(report.learning),
        parts.phases.section(report.phases),
        parts.documents.section(report.documents),
        parts.gradients.section(report.gradients),
        parts.logits.section(report.logits),
        parts.gates.section(report.gates, report.stopped),
        parts.responses.section(report.responses),
        parts.attempts.section(report.provenance),
        *parts.quantization.sections(report.quantized),
        parts.verification.section(report.verified),
        parts.ladder.section(recipe.ladder, report.ladder),
    ]
    return tuple(section for section in sections if section)


def _layer_importance(folder: str | None) -> dict[str, float] | None:
    if folder is None:
        return None
    scores: dict[str, float] = json.loads((Path(folder) / "importance.json").read_text())["layer_scores"]
    return scores
