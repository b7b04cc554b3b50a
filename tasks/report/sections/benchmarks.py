"""The report's section on benchmarks: each model's score, how its answers ended, and paired differences."""

from __future__ import annotations

import json
from pathlib import Path

from conf.report.benchmarks import BenchmarkDifference, BenchmarkRow, BenchmarkScore
from conf.report.section import Section
from tasks.analysis.statistics import mcnemar, paired_difference
from tasks.report.model import ReportModel
from tasks.report.sections import answerers

CUT = 0.1
"""Share of answers cut by length from which scores are not to be compared."""
HEADER = (
    "benchmark",
    "model",
    "score",
    "95% interval",
    "n",
    "chance",
    "against the teacher",
    "against the model before",
    "cut by length",
    "no answer found",
)
METHOD = (
    "Prompts are those of lm-eval's tasks; scores are imbik's own, which also accept right answers in other forms, such"
    " as $18.00 or \\boxed{18}. Differences are paired over the same questions (95%, Newcombe)."
)

Right = dict[str, bool]
"""Whether the first response to each question is right, by the question's id."""


def read_benchmarks(models: list[ReportModel]) -> tuple[BenchmarkRow, ...]:
    """Scores and differences by benchmark and model, the teacher first."""
    rows = []
    for name in dict.fromkeys(name for model in models for name in model.benchmarks):
        asked = [model for model in models if name in model.benchmarks]
        right = {model.model: read_right(model.benchmarks[name]) for model in asked}
        for number, model in enumerate(asked):
            scores = BenchmarkScore.model_validate_json((Path(model.benchmarks[name]) / "benchmark.json").read_text())
            rows.append(
                BenchmarkRow(
                    benchmark=name,
                    model=model.model,
                    scores=scores,
                    against_teacher=_difference(right, model, asked[0] if number else None),
                    against_before=_difference(right, model, _before(model, asked[:number])),
                )
            )
    return tuple(rows)


def read_right(folder: str) -> Right:
    """From the folder of a model's judged answers to one benchmark."""
    items = map(json.loads, (Path(folder) / "items.jsonl").read_text(encoding="utf-8").splitlines())
    return {item["id"]: bool(item["correct"]) for item in items if item["sample"] == 0}


def _before(model: ReportModel, earlier: list[ReportModel]) -> ReportModel | None:
    """The same student before its last stage: formats are compared with the student that they quantize."""
    same = [one for one in earlier if one.student == model.student and one.format is None]
    return same[-1] if same and model.student else None


def _difference(right: dict[str, Right], model: ReportModel, base: ReportModel | None) -> BenchmarkDifference | None:
    if base is None:
        return None
    ours, theirs = right[model.model], right[base.model]
    common = sorted(ours.keys() & theirs.keys())
    pair = [ours[item] for item in common], [theirs[item] for item in common]
    difference, low, high = paired_difference(*pair)
    return BenchmarkDifference(model=base.model, difference=difference, ci95=(low, high), p=mcnemar(*pair))


def section(rows: tuple[BenchmarkRow, ...]) -> Section | None:
    """The section, None where no benchmark was asked."""
    if not rows:
        return None
    names = dict.fromkeys(row.benchmark for row in rows)
    sentences = [
        sentence for name in names for sentence in _sentences(name, [row for row in rows if row.benchmark == name])
    ]
    told = any(row.scores.answered_by for row in rows)
    return Section(
        title="Benchmarks",
        sentences=tuple(sentences),
        header=HEADER + (("answered by",) if told else ()),
        rows=tuple(_cells(row) + ((row.scores.who,) if told else ()) for row in rows),
        notes=(METHOD, *answerers.notes(rows)),
    )


def _sentences(name: str, rows: list[BenchmarkRow]) -> list[str]:
    """What must be known before the scores of one benchmark are read."""
    sentences = []
    if left_out := rows[0].scores.left_out:
        sentences.append(f"Questions of {name} left out, since their own reference solutions fail: {left_out}.")
    at_chance = [row.model for row in rows if row.scores.chance and row.scores.ci95[0] <= row.scores.chance]
    if at_chance:
        sentences.append(f"Not above chance on {name}: {', '.join(at_chance)}.")
    if cut := [row.model for row in rows if row.scores.cut_by_length > CUT]:
        sentences.append(
            f"More than {CUT:.0%} of the answers to {name} were cut by max_new_tokens: {', '.join(cut)}; raise"
            f" evaluate.benchmarks.{name}.max_new_tokens before comparing scores."
        )
    if len(who := dict.fromkeys(row.scores.who for row in rows)) > 1:
        sentences.append(
            f"{name} was answered by {' and by '.join(who)}: differences between their models are also those of the"
            " engines."
        )
    if rows[0].scores.samples > 1:
        values = "; ".join(f"{row.model} {_pass_at(row.scores)}" for row in rows)
        sentences.append(f"With {rows[0].scores.samples} answers to each question of {name}: {values}.")
    return sentences


def _pass_at(scores: BenchmarkScore) -> str:
    return ", ".join(
        f"pass@{k} {share:.1%}" for k, share in sorted(scores.pass_at.items(), key=lambda one: int(one[0]))
    )


def _cells(row: BenchmarkRow) -> tuple[str, ...]:
    scores = row.scores
    return (
        f"{row.benchmark}, {scores.shots}-shot" + (", chat" if scores.chat else ""),
        row.model,
        f"{scores.score:.1%}",
        f"{scores.ci95[0]:.1%} to {scores.ci95[1]:.1%}",
        str(scores.n),
        f"{scores.chance:.1%}" if scores.chance else "-",
        _change(row.against_teacher),
        _change(row.against_before),
        f"{scores.cut_by_length:.1%}",
        f"{scores.no_answer:.1%}",
    )


def _change(difference: BenchmarkDifference | None) -> str:
    if difference is None:
        return "-"
    low, high = difference.ci95
    return f"{100 * difference.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
