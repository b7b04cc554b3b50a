"""The one answer of a run: every model side by side, as report.json, report.md and a self-contained report.html.

It reads sealed artifacts and computes what they mean; drawing is `plots`, the page is `page`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from conf.recipe import Recipe
from conf.spec import Record
from tasks.analysis import ladder, winner
from tasks.analysis.comparisons import compare, items_of, recovered
from tasks.report.model import BESIDE_NOTHING, Beside, Measured, Report, Row
from tasks.report.section import Section
from tasks.report.sections import attempts as attempts_report
from tasks.report.sections import claims as claims_report
from tasks.report.sections import gates as gates_report
from tasks.report.sections import learning
from tasks.report.sections import logits as logits_report
from tasks.report.sections import pruning as pruning_report
from tasks.report.sections import quantization as quantize_report
from tasks.report.sections import responses as responses_report
from tasks.report.sections.ladder import section as ladder_section

SCORES = (
    "num_params",
    "bytes",
    "mmlu",
    "mmlu_n",
    "mmlu_ci95",
    "val_loss",
    "perplexity",
    "kl_teacher",
    "agreement_teacher",
    "tokens_per_second",
)
MORE = (
    "mmlu_stderr",
    "mmlu_subjects",
    "mmlu_chance",
    "mmlu_truncated",
    "mmlu_style",
    "shots",
    "val_tokens",
    "val_loss_stderr",
    "latency_seconds",
    "simulated",
)


def write_report(
    folder: Path,
    name: str,
    recipe: Recipe,
    models: list[Measured],
    beside: Beside = BESIDE_NOTHING,
) -> Report:
    """Write the report of a run into its folder, each file whole or not at all, and return what report.json holds.

    `beside` is what the run left besides its models.
    """
    from tasks.report.plots import overview as plots
    from tasks.report.plots import quantization as quantize_plots

    report = make_report(name, recipe, models, beside)
    return write(folder, report, plots.draw(report) | quantize_plots.draw(report))


def write(folder: Path, report: Report, drawings: dict[str, str]) -> Report:
    """Write a report's files with its drawings (SVG by name), each whole or not at all, and return the report."""
    from tasks.report import render as page

    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for title, svg in drawings.items():
        _write(folder / "plots" / f"{title}.svg", svg)
    _write(folder / "report.md", page.markdown(report, drawings))
    _write(folder / "report.html", page.html(report, drawings))
    _write(folder / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def make_report(
    name: str,
    recipe: Recipe,
    models: list[Measured],
    beside: Beside = BESIDE_NOTHING,
) -> Report:
    """What report.json holds: a row per model, the students' curves, what it means in sentences, how it was made."""
    rows = [row_of(model) for model in models]
    items = {model.model: items_of(model.scores) for model in models}
    by_name = {row["model"]: row for row in rows}
    for model, row in zip(models, rows, strict=True):
        row["baseline"] = _baseline(recipe, model.student)
        candidates = (f"{model.student}-sft", f"{model.student}", f"{model.student}-pruned")
        base = next(name for name in candidates if name in by_name) if model.stage == "quantize" else None
        row["against_teacher"] = compare(row, by_name["teacher"], items)
        row["against_student"] = compare(row, by_name[base], items) if base else None
        row["recovered"] = recovered(row, by_name) if model.stage == "distill" else None
    report: Report = {"name": name, "description": recipe.description, "rows": rows}
    report["chance"] = rows[0].get("mmlu_chance")
    report["curves"] = {model.model: _curve(model) for model in models if model.stage == "distill" and model.training}
    report["learning"] = {
        model.model: learning.learned(model.training) for model in models if model.stage == "distill" and model.training
    }
    report["layer_importance"] = _layers(beside.importance)
    report["responses"] = responses_report.collect(recipe, models, beside.generated)
    report["logits"] = logits_report.read(beside.logits)
    report["gates"], report["stopped"] = [verdict.model_dump(mode="json") for verdict in beside.gates], beside.stopped
    cuts = {model.model: model.path for model in models if model.stage == "prune"}
    report |= pruning_report.facts(recipe, cuts, beside.searches, beside.sweep)
    report["formats"] = quantize_report.gather(
        {model.model: str(Path(model.path).parent) for model in models if model.stage == "quantize"}
    )
    report["claims"] = claims_report.decide(recipe, rows, {model.model: model.scores for model in models})
    report["made"] = made_of(models, beside.stages)
    report["meaning"] = meaning(report)
    report["ladder"] = ladder.climb(recipe, rows)
    rungs = ladder_section(recipe, report["ladder"])
    report["sections"] = [
        section.model_dump(mode="json") for section in (*sections_of(report), *([rungs] if rungs else []))
    ]
    report["winner"] = winner.choose(recipe, report, {model.model: model.scores for model in models})
    if report["winner"]:
        report["meaning"].append(report["winner"]["sentence"])
    return report


def sections_of(report: Report) -> list[Section]:
    """What the report tells beside its main table, each in a module of its own; a section with nothing to say is left
    out."""
    found = [
        claims_report.section(report),
        learning.section(report),
        logits_report.section(report),
        gates_report.section(report),
        responses_report.section(report),
        attempts_report.section(report),
    ]
    found = [*pruning_report.sections(report), *found]
    found += quantize_report.sections(report)
    return [section for section in found if section]


def meaning(report: Report) -> list[str]:
    """What the numbers say, in sentences; also when they say nothing."""
    rows: list[Row] = report["rows"]
    teacher, sentences = rows[0], []
    chance = report["chance"]
    if teacher["mmlu"] is not None and chance is not None and teacher["mmlu_ci95"][0] <= chance:
        sentences.append(
            f"The teacher's multiple-choice score of {teacher['mmlu']:.1%} (n = {teacher['mmlu_n']}) is at chance"
            f" ({chance:.0%}): no score in this table says anything about knowledge, and differences between them are"
            " noise. Judge by loss and KL."
        )
    elif teacher["mmlu"] is not None:
        sentences.append(
            f"The teacher answers {teacher['mmlu']:.1%} of {teacher['mmlu_n']} questions; guessing would give"
            f" {chance or 0.25:.0%}."
        )
    sentences += [sentence for row in rows if (sentence := _about(row, teacher))]
    if any(row["simulated"] for row in rows):
        sentences.append(
            "Quantized models were scored with their quantization simulated by ModelOpt on the shipped weights and"
            " scales, as this machine has no engine that runs them; their speed is not measured."
        )
    return sentences


def _about(row: Row, teacher: Row) -> str | None:
    """What one row says, if anything."""
    lost = f"{row['val_loss'] - teacher['val_loss']:+.3f} nats{_points(row['against_teacher'])}"
    if row["baseline"] == "scratch":
        is_taught = row["stage"] == "distill"
        return (
            f"{row['model']}, the same shape from random weights, ends at {lost} from the teacher."
            if is_taught
            else None
        )
    if row["stage"] == "prune":
        by = f", ranked by {row['baseline']} as a baseline" if row["baseline"] else ""
        return (
            f"Pruning to {row['model'].removesuffix('-pruned')} ({row['share_params']:.0%} of the parameters{by}) cost"
            f" {lost}."
        )
    if row["stage"] == "distill" and row["recovered"]:
        parts = [f"{value:.0%} of the lost {unit}" for unit, value in row["recovered"].items() if value is not None]
        return f"Distillation won back {' and '.join(parts)} for {row['model']}." if parts else None
    if row["stage"] == "quantize":
        against = row["against_student"] or row["against_teacher"]
        return f"{row['format'].upper()} moved {row['student']} by {against['val_loss']:+.4f} nats{_points(against)}."
    return None


def _layers(importance: str | None) -> dict[str, float] | None:
    if importance is None:
        return None
    scores: dict[str, float] = json.loads((Path(importance) / "importance.json").read_text())["layer_scores"]
    return scores


def row_of(model: Measured) -> Row:
    """A model's row: its names and what its sealed scores say."""
    scores = json.loads((Path(model.scores) / "scores.json").read_text())
    row: Row = {
        "model": model.model,
        "stage": model.stage,
        "student": model.student,
        "format": model.format,
        "path": model.path,
    }
    return row | {key: scores.get(key) for key in (*SCORES, *MORE)}


def _baseline(recipe: Recipe, student: str | None) -> str | None:
    """What a student is there to be compared with: 'scratch', 'magnitude' or 'random'; None for a real one."""
    if student not in recipe.students:
        return None
    return recipe.students[student].baseline


def _curve(model: Measured) -> dict[str, list[float]]:
    """Validation losses over steps; where a resumed job repeated a step, the later line counts."""
    by_step: dict[int, dict[str, float]] = {}
    assert model.training is not None
    for text in (Path(model.training) / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "val_loss" in line["values"]:
            by_step[line["step"]] = line["values"]
    steps = sorted(by_step)
    curve: dict[str, list[float]] = {"step": [float(step) for step in steps]}
    return curve | {
        key: [by_step[step][key] for step in steps]
        for key in ("val_loss", "val_kl")
        if all(key in by_step[step] for step in steps)
    }


def made_of(models: list[Measured], stages: dict[str, str]) -> list[Row]:
    """The artifacts behind the table: stage, key, seconds, versions and the command that repeats each. Of the other
    `stages` (folder by label) those that took more than one attempt."""
    folders = {str(Path(model.path).parent): model.model for model in models} | {
        model.scores: f"{model.model} (scores)" for model in models
    }
    others = {folder: label for label, folder in stages.items() if folder not in folders}
    made = []
    for folder, label in (folders | others).items():
        record = Record.model_validate_json((Path(folder) / "artifact.json").read_text())
        if folder in others and len(record.attempts) < 2:
            continue
        command = f"python -m jobs.{record.stage} --spec {folder}/spec.json"
        about: Row = {
            "label": label,
            "stage": record.stage,
            "key": record.key,
            "seconds": record.seconds,
            "created": record.created,
        }
        if len(record.attempts) > 1:
            about["attempts"] = [attempt.model_dump(mode="json") for attempt in record.attempts]
        made.append(about | {"commit": record.commit, "versions": record.versions, "repeat": command})
    return made


def _points(against: Row) -> str:
    """A paired score difference as the end of a sentence; empty where no score was taken."""
    if against["mmlu"] is None:
        return ""
    low, high = against["mmlu_ci95"]
    told = f"{against['mmlu'] * 100:+.1f} points (95% {low * 100:+.1f} to {high * 100:+.1f})"
    return f" and no shown difference in score: {told}" if low <= 0 <= high else f" and {told}"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
