"""The report's section on iterative pruning: what each round kept and lost."""

from __future__ import annotations

from conf.report.pruning import Cut
from conf.report.report import Report
from conf.report.row import Row
from conf.report.section import Section
from tasks.report.sections.pruning import AXIS_NAMES, one_layer


def sections(report: Report) -> list[Section]:
    """One section per student that is pruned in several rounds."""
    return [_section(report, student, rounds) for student, rounds in report.rounds.items()]


def _section(report: Report, student: str, rounds: int) -> Section:
    by_model = {row.model: row for row in report.rows}
    teacher = by_model["teacher"]
    rows = []
    last: Row | None = None
    for number in range(1, rounds + 1):
        name = student if number == rounds else f"{student}-r{number}"
        pruned, distilled = by_model.get(f"{name}-pruned"), by_model.get(name)
        if pruned is None:
            break
        rows.append((str(number), *_cells(pruned, distilled, report.cuts.get(pruned.model), teacher)))
        last = distilled or pruned
    outcome = "No round was built."
    if last:
        outcome = f"After its last round {student} is {last.val_loss - teacher.val_loss:+.3f} nats from the teacher."
    return Section(
        title=f"Pruning rounds of {student}",
        sentences=(outcome,),
        header=("round", "kept", "params", "loss after cut", "loss after distillation", "KL(teacher ‖ model)"),
        rows=tuple(rows),
        notes=(
            (
                "Each round prunes the student of the previous round, by importance measured on that student. Losses in"
                " nats per token on the test split."
            ),
        ),
    )


def _cells(pruned: Row, distilled: Row | None, cut: Cut | None, teacher: Row) -> tuple[str, ...]:
    return (
        _kept(cut),
        f"{pruned.num_params:,} ({pruned.num_params / teacher.num_params:.0%})",
        f"{pruned.val_loss:.4f}",
        f"{distilled.val_loss:.4f}" if distilled else "-",
        f"{distilled.kl_teacher:.4f}" if distilled and distilled.kl_teacher is not None else "-",
    )


def _kept(cut: Cut | None) -> str:
    """The size along each axis of a cut."""
    parts = {axis: one_layer(part) for axis, part in cut.axes.items()} if cut else {}
    return ", ".join(f"{part.count} of {part.of} {AXIS_NAMES[axis]}" for axis, part in parts.items()) or "-"
