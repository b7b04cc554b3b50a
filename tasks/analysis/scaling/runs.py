"""A ladder's points from finished runs of a store: distilled students, or teachers trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conf.report.report import Report
from conf.report.row import Row
from tasks.store.runs import folder_of, read_report, scores_of, sealed
from tasks.store.store import Artifact, Store

Kind = Literal["students", "teachers"]


@dataclass(frozen=True, kw_only=True)
class Points:
    """Rows (name, params, tokens, loss on the test split), and sentences on models that are none of them. For students,
    the loss and the parameters of their teacher; else 0."""

    rows: list[tuple[str, float, float, float]]
    left_out: tuple[str, ...]
    teacher_loss: float = 0.0
    teacher_params: float = 0.0


def read_runs(root: Path, runs: list[str], kind: Kind) -> Points:
    """The points of finished runs; StoreError or ValueError where a run is not there, or where losses cannot be
    compared: measured on different text, or after different teachers."""
    store, left_out = Store(root, writes=False), list[str]()
    found: dict[str, tuple[str, float, float, float]] = {}
    reports = {run: read_report(folder_of(root, run)) for run in runs}
    for run, report in reports.items():
        for row in report.rows:
            name = f"{run}/{row.model}"
            if row.stage != {"students": "distill", "teachers": "teacher"}[kind]:
                continue
            tokens = _distilled(report, row) if kind == "students" else _trained(store, row)
            if isinstance(tokens, str):
                left_out.append(f"{name} is no point: {tokens}")
            elif row.path in found:
                left_out.append(f"{name} is the same model as {found[row.path][0]} and counts once")
            else:
                found[row.path] = (name, float(row.num_params), float(tokens), row.val_loss)
    if not found:
        raise ValueError(f"{', '.join(runs)}: there are no {kind} to fit; {'; '.join(left_out) or 'none was trained'}")
    _check_text(store, reports, set(found))
    if kind == "teachers":
        return Points(rows=list(found.values()), left_out=tuple(left_out))
    teacher = _one_teacher(reports)
    return Points(
        rows=list(found.values()),
        left_out=tuple(left_out),
        teacher_loss=teacher.val_loss,
        teacher_params=float(teacher.num_params),
    )


def _distilled(report: Report, row: Row) -> int | str:
    """Tokens that a student was distilled on, or why it is no point of the ladder."""
    learning = report.learning.get(row.model)
    if row.baseline:
        return "it is a baseline, made otherwise than the others"
    if report.rounds.get(row.student or "", 1) > 1:
        return "it was pruned and distilled in several rounds"
    if learning is None or not learning.tokens:
        return "its training was not recorded"
    kept = learning.kept
    if kept and (kept.stopped or kept.step != kept.steps):
        return f"its weights are those of step {kept.step} of {kept.steps}, before its schedule had ended"
    return kept.tokens if kept else learning.tokens[-1]


def _trained(store: Store, row: Row) -> int | str:
    """Tokens that a teacher was trained on from scratch, or why it is no point of the ladder."""
    config = sealed(store, Path(row.path).parent.name).record.config
    if not config.get("shape"):
        return "it was imported, so the tokens that it was trained on are not known"
    return int(config["steps"] * config["global_batch"] * config["seq_length"])


def _check_text(store: Store, reports: dict[str, Report], models: set[str]) -> None:
    """ValueError unless all losses were measured on the same sequences of the same text."""
    first: tuple[str, tuple[object, ...]] | None = None
    for run, report in reports.items():
        for row in report.rows:
            if row.path not in models:
                continue
            scores = Artifact(stage="evaluate", key="", path=str(scores_of(store, report, row))).record
            measured = (scores.inputs["data"], *(scores.config[key] for key in ("seq_length", "sequences")))
            first = first or (run, measured)
            if measured != first[1]:
                raise ValueError(
                    f"runs {first[0]} and {run} measured their losses on different text; give both the same data and"
                    " evaluate settings"
                )


def _one_teacher(reports: dict[str, Report]) -> Row:
    teachers = {Path(report.rows[0].path).parent.name: (run, report.rows[0]) for run, report in reports.items()}
    if len(teachers) > 1:
        names = ", ".join(run for run, _ in teachers.values())
        raise ValueError(f"the students of runs {names} had different teachers, so no one law holds for them")
    return next(iter(teachers.values()))[1]
