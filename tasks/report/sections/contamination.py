"""The report's section on benchmark questions in the training text, and the scores without them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from conf.report.contamination import CleanScore, Contamination
from conf.report.section import Section
from tasks.analysis.comparisons import answers_of
from tasks.analysis.statistics import wilson

EXAMPLES = 20
HEADER = ("model", "score without them", "95% interval", "n", "score on them", "n")


def read_contamination(folder: str | None, scores: dict[str, str]) -> Contamination | None:
    """What the stage found, with the scores of all models (`scores`: their folders by name); None where the run has no
    such stage."""
    if folder is None:
        return None
    content = json.loads((Path(folder) / "contamination.json").read_text(encoding="utf-8"))
    found = {(subject, index) for subject, indices in content["found"].items() for index in indices}
    with (Path(folder) / "matches.jsonl").open(encoding="utf-8") as stream:
        matches = [json.loads(line) for line in itertools.islice(stream, EXAMPLES)]
    counts = ("questions", "unknowable", "documents", "documents_with_questions", "found")
    return Contamination(
        **{name: content[name] for name in counts},
        examples=tuple((f"{one['subject']} {one['index']}", one["question"], one["excerpt"]) for one in matches),
        scores=tuple(score for model, path in scores.items() if (score := _score(model, path, found))),
    )


def _score(model: str, path: str, found: set[tuple[str, int]]) -> CleanScore | None:
    """The score of a model on both parts of its questions; None where either is empty."""
    answers = answers_of(path)
    there = [right for item, right in answers.items() if item in found]
    others = [right for item, right in answers.items() if item not in found]
    if not there or not others:
        return None
    low, high = wilson(sum(others), len(others))
    return CleanScore(
        model=model,
        clean=sum(others) / len(others),
        clean_ci95=(low, high),
        clean_n=len(others),
        found=sum(there) / len(there),
        found_n=len(there),
    )


def section(contamination: Contamination | None) -> Section | None:
    """The section, None where nothing was looked for."""
    if contamination is None:
        return None
    number, read = sum(map(len, contamination.found.values())), sum(contamination.documents.values())
    sentences = [
        f"{number:,} of the {contamination.questions:,} questions occur in the training text, in"
        f" {contamination.documents_with_questions:,} of {read:,} documents and records."
    ]
    if contamination.unknowable:
        sentences.append(f"{contamination.unknowable:,} more are too short to be told from common phrases.")
    return Section(
        title="Questions in the training text",
        sentences=tuple(sentences),
        header=HEADER if contamination.scores else (),
        rows=tuple(_row(score) for score in contamination.scores),
        notes=(
            "A question counts where half of its words, and at least thirteen or all, stand close together in a"
            " document in runs of five, in any order; a question of fewer than eight words only with its options.",
            *(f"{place}: {question} / {excerpt}" for place, question, excerpt in contamination.examples),
        ),
    )


def _row(score: CleanScore) -> tuple[str, ...]:
    low, high = score.clean_ci95
    clean = (f"{score.clean:.1%}", f"{low:.1%} to {high:.1%}", f"{score.clean_n:,}")
    return (score.model, *clean, f"{score.found:.1%}", f"{score.found_n:,}")
