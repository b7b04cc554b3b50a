"""Reports of single stages: some models side by side, a corpus, or runs compared. They have the form of a run's report
with fewer parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conf.report.report import VERSION, Report
from conf.report.row import Difference, Row
from conf.report.run import RunInfo
from conf.report.section import Section
from tasks.analysis.namesakes import Measured, pair
from tasks.report import words
from tasks.report.model import ReportModel
from tasks.report.provenance import provenance
from tasks.report.report import write
from tasks.report.rows import standalone_rows
from tasks.report.sections import benchmarks, filters, text, verification
from tasks.report.summary import comparison
from tasks.store.runs import scores_of
from tasks.store.store import Artifact, Store


def write_models(
    folder: Path,
    name: str,
    description: str,
    models: list[ReportModel],
    teacher: str | None = None,
    run: RunInfo | None = None,
) -> Report:
    """The report of models that were measured together; the others are compared with the first. `teacher` is the name
    of the model that KL was measured against; default: the first."""
    rows, verified = standalone_rows(models), verification.read_verified(models)
    opened, asked = verification.section(verified), benchmarks.read_benchmarks(models)
    report = Report(
        version=VERSION,
        name=name,
        description=description,
        run=run,
        teacher=teacher or rows[0].model,
        rows=rows,
        chance=rows[0].mmlu_chance,
        summary=tuple(comparison(row, rows[0]) for row in rows[1:]),
        verified=verified,
        benchmarks=asked,
        sections=tuple(part for part in (benchmarks.section(asked), opened) if part),
        provenance=provenance(models, {}),
    )
    return write(folder, report, {})


def write_corpus(folder: Path, name: str, corpus: Artifact, run: RunInfo | None = None) -> Report:
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
    counts_of = text.read_text({"data": corpus.path})
    read = text.section(counts_of)
    report = Report(
        version=VERSION,
        name=name,
        description="A prepared corpus.",
        run=run,
        texts=counts_of,
        summary=(
            f"The corpus is in {corpus.path}; a recipe with the same data section reuses it from the store.",
            *(read.sentences if read else ()),
        ),
        sections=(
            *filters.sections(counts_of),
            Section(title="Splits", header=("split", *columns), rows=rows),
            Section(title="Whole corpus", header=("statistic", "value"), rows=totals),
        ),
    )
    return write(folder, report, {})


def write_comparison(
    folder: Path,
    name: str,
    runs: dict[str, Report],
    differences: list[tuple[str, ...]],
    store: Store,
    run: RunInfo | None = None,
) -> Report:
    """Runs side by side: their models in one table, each model of a later run compared with its namesake in the first,
    and the settings that differ. `differences` are rows of stage, setting and its value in each run."""
    reference, *others = runs
    base = {row.model: _measured(reference, runs[reference], row, store) for row in runs[reference].rows}
    pairs = [
        (_measured(other, runs[other], row, store), base[row.model])
        for other in others
        for row in runs[other].rows
        if row.model in base
    ]
    sentences = [namesakes_sentence(ours, theirs) for ours, theirs in pairs] or [
        "The runs have no model of the same name: nothing is paired."
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
        run=run,
        teacher=None,
        rows=tuple(_renamed(run, row) for run, report in runs.items() for row in report.rows),
        chance=runs[reference].chance,
        summary=tuple(sentences),
        sections=(settings,),
        provenance=tuple(entry for report in runs.values() for entry in report.provenance),
    )
    return write(folder, report, {})


def namesakes_sentence(ours: Measured, theirs: Measured) -> str:
    """One model of a run against its namesake in the reference run, in words."""
    found, names = pair(ours, theirs), f"{ours.row.model} against {theirs.row.model}"
    if found.same:
        return f"{names}: the same model, one artifact of the store; there is nothing to compare."
    against, counts = found.difference, (len(ours.losses), len(theirs.losses))
    if found.other_text:
        loss = "test losses are not compared, because they were measured on different text"
    else:
        loss = f"{against.val_loss:+.4f} nats" + _interval(against)
        loss += f" over the {found.sequences} test sequences that both scored" if counts[0] != counts[1] else ""
    if found.other_questions and ours.answers and theirs.answers:
        score = "; scores are not compared, because the questions differ"
    elif against.mmlu is not None and against.mmlu_ci95 is not None:
        low, high = against.mmlu_ci95
        score = f" and {words.points(against.mmlu, low, high)}"
        score += ", no significant difference" if low <= 0 <= high else ""
        score += f", over {against.mmlu_n} common questions" if len(ours.answers) != len(theirs.answers) else ""
    else:
        score = ""
    return f"{names}: {loss}{score}; {against.bytes_ratio:.0%} of its size."


def _interval(against: Difference) -> str:
    """The interval of a paired loss, with the word tie where it holds 0."""
    if against.val_loss_ci95 is None:
        return ""
    low, high = against.val_loss_ci95
    return f" (95% {low:+.4f} to {high:+.4f}{', a tie' if low <= 0 <= high else ''})"


def _measured(run: str, report: Report, row: Row, store: Store) -> Measured:
    return Measured.read(_renamed(run, row), scores_of(store, report, row), store)


def _renamed(run: str, row: Row) -> Row:
    against = row.against_teacher.model_copy(update={"model": f"{run}/{row.against_teacher.model}"})
    return row.model_copy(update={"model": f"{run}/{row.model}", "against_teacher": against})
