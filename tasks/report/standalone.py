"""Reports of single stages: some models side by side, a corpus, or runs compared. They have the form of a run's report
with fewer parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.report import VERSION, Report
from conf.report.row import Row
from conf.report.section import Section
from tasks.analysis.comparisons import Answers, answers_of, compare
from tasks.report.model import ReportModel
from tasks.report.provenance import provenance
from tasks.report.report import write
from tasks.report.rows import standalone_rows
from tasks.report.summary import comparison
from tasks.store.runs import scores_of
from tasks.store.store import Artifact, Store


def write_models(folder: Path, name: str, description: str, models: list[ReportModel]) -> Report:
    """The report of models that were measured together; the others are compared with the first."""
    rows = standalone_rows(models)
    report = Report(
        version=VERSION,
        name=name,
        description=description,
        rows=rows,
        chance=rows[0].mmlu_chance,
        summary=tuple(comparison(row, rows[0]) for row in rows[1:]),
        provenance=provenance(models, {}),
    )
    return write(folder, report, {})


def write_corpus(folder: Path, name: str, corpus: Artifact) -> Report:
    """The report of a prepared corpus: documents, tokens and rejected documents by split, and its other statistics."""
    statistics: dict[str, Any] = json.loads((Path(corpus.path) / "statistics.json").read_text())
    splits: dict[str, dict[str, Any]] = statistics["splits"]
    counts = {key for split in splits.values() for key, value in split.items() if isinstance(value, (int, float))}
    columns = sorted(counts)
    rows = tuple((title, *(f"{split.get(column, 0):,}" for column in columns)) for title, split in splits.items())
    totals = tuple(
        (key, json.dumps(value))
        for key, value in statistics.items()
        if key != "splits" and not isinstance(value, (dict, list))
    )
    report = Report(
        version=VERSION,
        name=name,
        description="A prepared corpus.",
        summary=(f"The corpus is in {corpus.path}; a recipe with the same data section reuses it from the store.",),
        sections=(
            Section(title="Splits", header=("split", *columns), rows=rows),
            Section(title="Whole corpus", header=("statistic", "value"), rows=totals),
        ),
    )
    return write(folder, report, {})


def write_comparison(
    folder: Path, name: str, runs: dict[str, Report], differences: list[tuple[str, ...]], store: Store
) -> Report:
    """Runs side by side: their models in one table, each model of a later run compared with its namesake in the first,
    and the settings that differ. `differences` are rows of stage, setting and its value in each run."""
    reference, *others = runs
    answers = {run: _answers(report, store) for run, report in runs.items()}
    base_rows = {row.model: row for row in runs[reference].rows}
    sentences = [
        _namesakes(reference, base_rows[row.model], run, row, answers)
        for run in others
        for row in runs[run].rows
        if row.model in base_rows
    ]
    settings = Section(
        title="Settings that differ",
        sentences=() if differences else ("Every stage that the runs share is the same artifact.",),
        header=("stage", "setting", *runs),
        rows=tuple(differences),
    )
    report = Report(
        version=VERSION,
        name=name,
        description=f"Runs {' and '.join(runs)} side by side.",
        rows=tuple(_renamed(run, row) for run, report in runs.items() for row in report.rows),
        chance=runs[reference].chance,
        summary=tuple(sentences),
        sections=(settings,),
        provenance=tuple(entry for report in runs.values() for entry in report.provenance),
    )
    return write(folder, report, {})


def _namesakes(reference: str, base: Row, run: str, row: Row, answers: dict[str, dict[str, Answers]]) -> str:
    """One model of a run against its namesake in the reference run."""
    base_answers, row_answers = answers[reference][base.model], answers[run][row.model]
    base, row = _renamed(reference, base), _renamed(run, row)
    against = compare(row, base, {base.model: base_answers, row.model: row_answers})
    return comparison(row.model_copy(update={"against_teacher": against}), base)


def _renamed(run: str, row: Row) -> Row:
    return row.model_copy(update={"model": f"{run}/{row.model}"})


def _answers(report: Report, store: Store) -> dict[str, Answers]:
    """Each model's answers, by model."""
    return {row.model: answers_of(str(scores_of(store, report, row))) for row in report.rows}
