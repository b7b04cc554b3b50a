"""The report's section on benchmark questions in the training text, and the scores without them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from conf.report.contamination import CleanScore, Contamination
from conf.report.section import Section
from tasks.analysis.comparisons import Answers, answers_of
from tasks.analysis.statistics import wilson
from tasks.report.model import ReportModel

EXAMPLES = 20
HEADER = (
    "benchmark",
    "model",
    "score",
    "questions in the text",
    "score without them",
    "95% interval",
    "n",
    "score on them",
)
MMLU = "mmlu"


def read_contamination(folder: str | None, models: list[ReportModel]) -> Contamination | None:
    """What the stage found, with the scores of all models on all benchmarks; None where the run has no such stage."""
    if folder is None:
        return None
    content = json.loads((Path(folder) / "contamination.json").read_text(encoding="utf-8"))
    found = {(subject, index) for subject, indices in content["found"].items() for index in indices}
    with (Path(folder) / "matches.jsonl").open(encoding="utf-8") as stream:
        matches = [json.loads(line) for line in itertools.islice(stream, EXAMPLES)]
    counts = ("questions", "unknowable", "documents", "documents_with_questions", "found", "allowed", "taken_out")
    answered = [(MMLU, model.model, model.scores) for model in models]
    answered += [(name, model.model, path) for model in models for name, path in model.benchmarks.items()]
    scores = [_score(benchmark, model, answers_of(path), found) for benchmark, model, path in answered]
    order = list(dict.fromkeys(benchmark for benchmark, _, _ in answered))
    known = [score for score in scores if score]
    return Contamination(
        **{name: content[name] for name in counts if name in content},
        examples=tuple((f"{one['subject']}/{one['index']}", one["question"], one["excerpt"]) for one in matches),
        scores=tuple(sorted(known, key=lambda score: order.index(score.benchmark))),
    )


def _score(benchmark: str, model: str, answers: Answers, found: set[tuple[str, int]]) -> CleanScore | None:
    """The score of a model on both parts of a benchmark's questions; None where it was asked none."""
    there = [right for item, right in answers.items() if item in found]
    others = [right for item, right in answers.items() if item not in found]
    if not answers:
        return None
    return CleanScore(
        benchmark=benchmark,
        model=model,
        score=sum(answers.values()) / len(answers),
        clean=sum(others) / len(others) if others else None,
        clean_ci95=wilson(sum(others), len(others)) if others else None,
        clean_n=len(others),
        found=sum(there) / len(there) if there else None,
        found_n=len(there),
    )


def section(contamination: Contamination | None) -> Section | None:
    """The section, None where nothing was looked for."""
    if contamination is None:
        return None
    scores = contamination.scores if any(contamination.found.values()) else ()
    return Section(
        title="Questions in the training text",
        sentences=tuple(_sentences(contamination)),
        header=HEADER if scores else (),
        rows=tuple(_row(score) for score in scores),
        notes=(
            "A question counts where half of its words, and at least thirteen or all, stand close together in a"
            " document in runs of five, in any order; a question of fewer than eight words only with its options.",
            *(f"{place}: {question} / {excerpt}" for place, question, excerpt in contamination.examples),
        ),
    )


def summary(contamination: Contamination | None) -> list[str]:
    """What must be known before scores are read; empty where no question was found."""
    found = contamination and sum(map(len, contamination.found.values()))
    if not contamination or not found:
        return []
    return [
        f"{found:,} of the {contamination.questions:,} benchmark questions occur in the training text; the section"
        " Questions in the training text has the scores without them."
    ]


def _sentences(contamination: Contamination) -> list[str]:
    number, read = sum(map(len, contamination.found.values())), sum(contamination.documents.values())
    sentences = [
        f"{number:,} of the {contamination.questions:,} questions occur in the training text, in"
        f" {contamination.documents_with_questions:,} of {read:,} documents and records."
    ]
    if contamination.unknowable:
        sentences.append(f"{contamination.unknowable:,} more are too short to be told from common phrases.")
    if contamination.allowed:
        sentences.append(f"{contamination.allowed:,} more documents are allowed by contamination.reviewed.")
    for source, taken in contamination.taken_out.items():
        questions = sum(map(len, taken.found.values()))
        cut = f" and cut from {taken.cut:,}" if taken.action == "cut" else ""
        sentences.append(
            f"Before that, {questions:,} questions were found in {source}: {taken.removed:,} of {taken.read:,} training"
            f" documents were left out{cut}."
        )
    return sentences


def _row(score: CleanScore) -> tuple[str, ...]:
    low_high = score.clean_ci95
    return (
        score.benchmark,
        score.model,
        f"{score.score:.1%}",
        f"{score.found_n:,} of {score.found_n + score.clean_n:,}",
        "-" if score.clean is None else f"{score.clean:.1%}",
        "-" if low_high is None else f"{low_high[0]:.1%} to {low_high[1]:.1%}",
        f"{score.clean_n:,}",
        "-" if score.found is None else f"{score.found:.1%}",
    )
