"""The report's summary: what its numbers mean, in sentences."""

from __future__ import annotations

from conf.gates import CHANCE
from conf.report.report import Report
from conf.report.row import Difference, Row
from tasks.analysis import domain
from tasks.report import words
from tasks.report.verdict import at_chance


def summary(report: Report) -> list[str]:
    """What the numbers mean, also where they mean nothing."""
    sentences = [*_teacher_score(report.rows[0], report.chance), *_domain(report), *_truncated(report)]
    sentences += [sentence for row in report.rows if (sentence := _row(row))] + _beyond_the_teacher(report)
    if simulated := [row.model for row in report.rows if row.simulated]:
        opened = sum(model in report.verified for model in simulated)
        sentences.append(
            "Quantized models were scored with quantization simulated by ModelOpt on the published weights and scales;"
            " their speed was not measured."
            + (f" An engine opened {opened} of {len(simulated)}: its losses agree." if opened else "")
        )
    asked = [(row.model, row.scores.answered_by) for row in report.benchmarks]
    for what, found in (
        ("MMLU", [(row.model, row.mmlu_answered_by) for row in report.rows]),
        ("Other benchmarks" if report.rows[0].mmlu is not None else "Benchmarks", asked),
    ):
        if engines := dict.fromkeys(by.title for _, by in found if by):
            models = ", ".join(dict.fromkeys(model for model, by in found if by))
            sentences.append(f"{what} of {models}: answered by {' and '.join(engines)}.")
    return sentences


def comparison(row: Row, base: Row) -> str:
    """A model that belongs to no recipe against the first of its report."""
    against = row.against_teacher
    score = ""
    if against.mmlu is not None and against.mmlu_ci95 is not None:
        low, high = against.mmlu_ci95
        score = f" and {words.points(against.mmlu, low, high)}"
        score += ", no significant difference" if low <= 0 <= high else ""
    return (
        f"{row.model} against {base.model}: {against.val_loss:+.4f} nats{score}, {against.bytes_ratio:.0%} of its size."
    )


def _teacher_score(teacher: Row, chance: float | None) -> list[str]:
    if teacher.mmlu is None or teacher.mmlu_ci95 is None:
        return []
    if at_chance(teacher, chance):
        return [
            f"The teacher's multiple-choice score of {teacher.mmlu:.1%} (n = {teacher.mmlu_n}) is not above chance"
            f" ({chance:.0%}): the scores in this table do not measure knowledge, and their differences are noise. Use"
            " loss and KL instead."
        ]
    guessing = CHANCE if chance is None else chance
    return [
        f"The teacher answers {teacher.mmlu:.1%} of {teacher.mmlu_n} questions correctly; chance is {guessing:.0%}."
    ]


def _domain(report: Report) -> list[str]:
    why = domain.outside(report.rows)
    if why is None:
        return []
    return [
        f"The corpus lies outside the teacher's domain: {why}. The loss says nothing of what a student kept of the"
        " teacher here; compare models by KL."
    ]


def _beyond_the_teacher(report: Report) -> list[str]:
    """Trained students whose loss is below the teacher's, which needs a reason; outside the teacher's domain that is
    said already."""
    found = [
        row.model
        for row in report.rows
        if row.stage in ("distill", "sft") and (interval := row.against_teacher.val_loss_ci95) and interval[1] < 0
    ]
    if not found or domain.outside(report.rows):
        return []
    return [
        f"The loss of {', '.join(found)} is below the teacher's: the text itself (distill.ce_share, sft) can teach what"
        " the teacher does not know. KL says how near a student is to the teacher."
    ]


def _truncated(report: Report) -> list[str]:
    cut = {row.model: row.mmlu_truncated for row in report.rows if row.mmlu_truncated}
    if not cut:
        return []
    counts = ", ".join(f"{count:,} for {model}" for model, count in cut.items())
    return [
        f"Questions longer than a model's context lost their beginning ({counts}): these scores are lower than what the"
        " models know; fewer evaluate.mmlu.shots cut less."
    ]


def _row(row: Row) -> str | None:
    """What one row means; None where another row says it."""
    against = row.against_teacher
    if row.baseline == "scratch":
        if row.stage != "distill":
            return None
        told = f"{row.model}, the same shape from random weights, {words.nats(against.val_loss)}"
        return f"{told} against the teacher after distillation{_score(against)}."
    if row.stage == "prune":
        ranking = f", ranked by {row.baseline} as a baseline" if row.baseline else ""
        name = row.model.removesuffix("-pruned")
        change = words.nats(against.val_loss, verbs=("cost", "gained"))
        return f"Pruning to {name} ({row.share_params:.0%} of the parameters{ranking}) {change}{_score(against)}."
    if row.stage == "distill" and row.recovered:
        shares = {"nats": row.recovered.nats, "points": row.recovered.points}
        parts = [f"{share:.0%} of the lost {unit}" for unit, share in shares.items() if share is not None]
        return f"Distillation recovered {' and '.join(parts)} for {row.model}." if parts else None
    if row.stage == "quantize":
        against, name = row.against_student or row.against_teacher, (row.format or "").upper()
        change = words.nats(against.val_loss, verbs=("cost", "gained"))
        return f"{name} {change} for {row.student}{_score(against)}."
    return None


def _score(against: Difference) -> str:
    """A paired score difference as the end of a sentence; empty where no score was measured."""
    if against.mmlu is None or against.mmlu_ci95 is None:
        return ""
    low, high = against.mmlu_ci95
    points = words.points(against.mmlu, low, high)
    return f" with no significant difference in score: {points}" if low <= 0 <= high else f"; score {points}"
