"""The one answer of a run: every model side by side, as report.json, report.md and a self-contained report.html.

It reads sealed artifacts and computes what they mean; what the report holds is `conf.report`, drawing is `plots`, text
and page are `render`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from conf.recipe import Recipe
from conf.report.learning import Curve
from conf.report.report import VERSION, Report
from conf.report.row import Difference, Row
from conf.report.section import Section
from tasks.analysis import ladder, winner
from tasks.report.model import BESIDE_NOTHING, Beside, Measured
from tasks.report.provenance import provenance
from tasks.report.rows import rows as rows_of
from tasks.report.sections import attempts as attempts_report
from tasks.report.sections import claims as claims_report
from tasks.report.sections import gates as gates_report
from tasks.report.sections import ladder as ladder_report
from tasks.report.sections import learning
from tasks.report.sections import logits as logits_report
from tasks.report.sections import pruning as pruning_report
from tasks.report.sections import quantization as quantize_report
from tasks.report.sections import responses as responses_report
from tasks.store.runs import REPORT


def write_report(
    folder: Path,
    name: str,
    recipe: Recipe,
    models: list[Measured],
    beside: Beside = BESIDE_NOTHING,
) -> Report:
    """Write the report of a run into its folder, each file whole or not at all, and return it.

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
    _write(folder / REPORT, json.dumps(report.model_dump(mode="json"), indent=2) + "\n")
    return report


def make_report(
    name: str,
    recipe: Recipe,
    models: list[Measured],
    beside: Beside = BESIDE_NOTHING,
) -> Report:
    """The report: a row per model, the students' curves, what it means in sentences, how it was made."""
    rows, scores = rows_of(recipe, models), {model.model: model.scores for model in models}
    distilled = {model.model: model.training for model in models if model.stage == "distill" and model.training}
    cuts = {model.model: model.path for model in models if model.stage == "prune"}
    quantized = {model.model: str(Path(model.path).parent) for model in models if model.stage == "quantize"}
    numbers = Report(
        version=VERSION,
        name=name,
        description=recipe.description,
        rows=rows,
        chance=rows[0].mmlu_chance,
        curves={model: _curve(folder) for model, folder in distilled.items()},
        learning={model: learning.learned(folder) for model, folder in distilled.items()},
        layer_importance=_layers(beside.importance),
        responses=responses_report.collect(recipe, models, beside.generated),
        logits=logits_report.read(beside.logits),
        gates=beside.gates,
        stopped=beside.stopped,
        kept=pruning_report.kept(cuts),
        sweep=pruning_report.swept(beside.sweep),
        rounds={name: len(student.rounds) for name, student in recipe.students.items() if student.rounds},
        searches={name: pruning_report.ranked(played) for name, played in beside.searches.items()},
        formats=quantize_report.gather(quantized),
        claims=claims_report.decide(recipe, rows, scores),
        provenance=provenance(models, beside.stages),
        ladder=ladder.climb(recipe, rows),
    )
    chosen = winner.choose(recipe, numbers, scores)
    sentences = (*meaning(numbers), *([chosen.sentence] if chosen else []))
    return numbers.model_copy(
        update={"meaning": sentences, "sections": sections_of(recipe, numbers), "winner": chosen}
    )


def sections_of(recipe: Recipe, report: Report) -> tuple[Section, ...]:
    """What the report says beside its main table, each in a module of its own; a section with nothing to say is left
    out."""
    sections = [
        *pruning_report.sections(report),
        claims_report.section(report),
        learning.section(report),
        logits_report.section(report),
        gates_report.section(report),
        responses_report.section(report),
        attempts_report.section(report),
        *quantize_report.sections(report),
        ladder_report.section(recipe, report.ladder),
    ]
    return tuple(section for section in sections if section)


def meaning(report: Report) -> list[str]:
    """What the numbers say, in sentences; also when they say nothing."""
    teacher, chance = report.rows[0], report.chance
    sentences = []
    if teacher.mmlu is not None:
        assert teacher.mmlu_ci95, "a score has an interval"
        if chance is not None and teacher.mmlu_ci95[0] <= chance:
            sentences.append(
                f"The teacher's multiple-choice score of {teacher.mmlu:.1%} (n = {teacher.mmlu_n}) is at chance"
                f" ({chance:.0%}): no score in this table says anything about knowledge, and differences between them"
                " are noise. Judge by loss and KL."
            )
        else:
            sentences.append(
                f"The teacher answers {teacher.mmlu:.1%} of {teacher.mmlu_n} questions; guessing would give"
                f" {chance or 0.25:.0%}."
            )
    sentences += [sentence for row in report.rows if (sentence := _about(row, teacher))]
    if any(row.simulated for row in report.rows):
        sentences.append(
            "Quantized models were scored with their quantization simulated by ModelOpt on the shipped weights and"
            " scales, as this machine has no engine that runs them; their speed is not measured."
        )
    return sentences


def _about(row: Row, teacher: Row) -> str | None:
    """What one row says, if anything."""
    lost = f"{row.val_loss - teacher.val_loss:+.3f} nats{_points(row.against_teacher)}"
    if row.baseline == "scratch":
        is_taught = row.stage == "distill"
        return f"{row.model}, the same shape from random weights, ends at {lost} from the teacher." if is_taught else None
    if row.stage == "prune":
        by = f", ranked by {row.baseline} as a baseline" if row.baseline else ""
        name = row.model.removesuffix("-pruned")
        return f"Pruning to {name} ({row.share_params:.0%} of the parameters{by}) cost {lost}."
    if row.stage == "distill" and row.recovered:
        shares = {"nats": row.recovered.nats, "points": row.recovered.points}
        parts = [f"{value:.0%} of the lost {unit}" for unit, value in shares.items() if value is not None]
        return f"Distillation won back {' and '.join(parts)} for {row.model}." if parts else None
    if row.stage == "quantize":
        against, form = row.against_student or row.against_teacher, row.format or ""
        return f"{form.upper()} moved {row.student} by {against.val_loss:+.4f} nats{_points(against)}."
    return None


def _layers(importance: str | None) -> dict[str, float] | None:
    if importance is None:
        return None
    scores: dict[str, float] = json.loads((Path(importance) / "importance.json").read_text())["layer_scores"]
    return scores


def _curve(folder: str) -> Curve:
    """Validations of a distillation over its steps; where a resumed job repeated a step, the later line counts."""
    by_step: dict[int, dict[str, float]] = {}
    for text in (Path(folder) / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        if "val_loss" in line["values"]:
            by_step[line["step"]] = line["values"]
    steps = sorted(by_step)
    columns = {
        key: tuple(by_step[step][key] for step in steps)
        for key in ("val_loss", "val_kl")
        if all(key in by_step[step] for step in steps)
    }
    return Curve(step=tuple(map(float, steps)), **columns)


def _points(against: Difference) -> str:
    """A paired score difference as the end of a sentence; empty where no score was taken."""
    if against.mmlu is None or against.mmlu_ci95 is None:
        return ""
    low, high = against.mmlu_ci95
    points = f"{against.mmlu * 100:+.1f} points (95% {low * 100:+.1f} to {high * 100:+.1f})"
    return f" and no shown difference in score: {points}" if low <= 0 <= high else f" and {points}"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
