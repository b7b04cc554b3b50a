"""Reports of single stages: a few models side by side, a corpus, or runs compared. A page as a whole run's, with less
to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.analysis.comparisons import compare, items_of
from tasks.report.model import Measured, Report
from tasks.report.report import made_of, row_of, write
from tasks.report.section import Section
from tasks.store.runs import scores_of
from tasks.store.store import Artifact, Store


def write_models(folder: Path, name: str, description: str, measured: list[Measured]) -> Report:
    """The report of models that were measured together; the first is what the others are compared with."""
    rows = [row_of(model) for model in measured]
    items = {model.model: items_of(model.scores) for model in measured}
    for one in rows:
        one["baseline"] = one["against_student"] = one["recovered"] = None
        one["share_params"] = one["num_params"] / rows[0]["num_params"]
        one["against_teacher"] = compare(one, rows[0], items)
    report: Report = _empty(name, description) | {
        "rows": rows,
        "chance": rows[0].get("mmlu_chance"),
        "made": made_of(measured, {}),
    }
    report["meaning"] = [_told(one, rows[0]) for one in rows[1:]]
    return write(folder, report, {})


def _told(one: dict[str, Any], base: dict[str, Any]) -> str:
    against = one["against_teacher"]
    score = ""
    if against["mmlu"] is not None:
        low, high = against["mmlu_ci95"]
        score = f" and {against['mmlu'] * 100:+.1f} points (95% {low * 100:+.1f} to {high * 100:+.1f})"
        score += ", which is no shown difference" if low <= 0 <= high else ""
    return (
        f"{one['model']} against {base['model']}: {against['val_loss']:+.4f} nats{score}, {against['bytes_ratio']:.0%}"
        " of its bytes."
    )


def write_corpus(folder: Path, name: str, corpus: Artifact) -> Report:
    """The report of a prepared corpus: documents, tokens and what was turned away."""
    statistics = json.loads((Path(corpus.path) / "statistics.json").read_text())
    splits = statistics["splits"]
    columns = sorted(
        {key for split in splits.values() for key, value in split.items() if isinstance(value, (int, float))}
    )
    rows = tuple((title, *(f"{split.get(column, 0):,}" for column in columns)) for title, split in splits.items())
    table = Section(title="Splits", header=("split", *columns), rows=rows)
    rest = [
        (key, json.dumps(value))
        for key, value in statistics.items()
        if key != "splits" and not isinstance(value, (dict, list))
    ]
    more = Section(title="All of it", header=("", "value"), rows=tuple(rest))
    report = _empty(name, "A prepared corpus.") | {
        "sections": [table.model_dump(mode="json"), more.model_dump(mode="json")]
    }
    report["meaning"] = [
        f"The corpus is at {corpus.path}; a recipe with the same data section takes it from the store."
    ]
    return write(folder, report, {})


def write_comparison(
    folder: Path, name: str, runs: dict[str, Report], differences: list[tuple[str, ...]], store: Store
) -> Report:
    """Runs side by side: their models in one table, and each model of a later run against its namesake in the first."""
    rows, first = [], next(iter(runs))
    scores = {run: _scores_of(report, store) for run, report in runs.items()}
    sentences = []
    for run, report in runs.items():
        for one in report["rows"]:
            rows.append(one | {"model": f"{run}/{one['model']}"})
            there = next((other for other in runs[first]["rows"] if other["model"] == one["model"]), None)
            if run != first and there:
                theirs, ours = (
                    there | {"model": f"{first}/{one['model']}"},
                    one | {"model": f"{run}/{one['model']}", "share_params": 1.0},
                )
                items = {
                    f"{first}/{one['model']}": scores[first][one["model"]],
                    f"{run}/{one['model']}": scores[run][one["model"]],
                }
                sentences.append(_told(ours | {"against_teacher": compare(ours, theirs, items)}, theirs))
    settings = Section(
        title="What differs",
        sentences=() if differences else ("Every stage that both runs have is the same artifact.",),
        header=("stage", "setting", *runs),
        rows=tuple(differences),
    )
    report = _empty(name, f"Runs {' and '.join(runs)} side by side.")
    report |= {"rows": rows, "meaning": sentences, "sections": [settings.model_dump(mode="json")]}
    report |= {"chance": runs[first].get("chance"), "made": [entry for one in runs.values() for entry in one["made"]]}
    return write(folder, report, {})


def _scores_of(report: Report, store: Store) -> dict[str, dict[tuple[str, int], bool]]:
    """Each model's answers, by the model's name."""
    return {one["model"]: items_of(str(scores_of(store, report, one))) for one in report["rows"]}


def _empty(name: str, description: str) -> Report:
    return {
        "name": name,
        "description": description,
        "chance": None,
        "rows": [],
        "sections": [],
        "meaning": [],
        "made": [],
        "gates": [],
        "stopped": {},
    }
