"""The report's section on gates: every bound, what was measured, the verdict, and the models that were not made."""

from __future__ import annotations

from conf.report.gates import Verdict
from conf.report.report import Report
from conf.report.section import Section
from tasks.analysis.verdicts import measured

HEADER = ("gate", "model", "bound", "confidence", "measured", "n", "verdict")


def section(report: Report) -> Section | None:
    """The section, None where the recipe has no gates."""
    verdicts = report.gates
    if not verdicts:
        return None
    closed = [verdict for verdict in verdicts if verdict.verdict != "passed"]
    sentences = [f"{verdict.sentence[0].upper()}{verdict.sentence[1:]}." for verdict in closed]
    sentences += [f"{model} was not made: gate {name} stopped its student." for model, name in report.stopped.items()]
    return Section(
        title="Gates",
        sentences=tuple(sentences or ["Every gate's bound was shown to hold."]),
        header=HEADER,
        rows=tuple(_row(verdict) for verdict in verdicts),
        notes=(
            (
                "A bound must hold at the worse end of the two-sided interval of the confidence named; with none, the"
                " estimate is enough. Comparisons are paired over the same questions (differences: Newcombe; ratios:"
                " Bonett and Price; p: exact McNemar test of no difference) or the same test sequences (Student's t)."
                " 'Not shown' means that the estimate keeps the bound and the interval does not; it stops a student as"
                " 'failed' does."
            ),
        ),
    )


def _row(verdict: Verdict) -> tuple[str, ...]:
    numbers = measured(verdict.confidence, verdict.measured, verdict.low, verdict.high)
    if verdict.p is not None:
        numbers += f", p = {verdict.p:.2g}"
    needs = f"; needs about {verdict.needs:,}" if verdict.needs else ""
    confidence = "none" if verdict.confidence is None else f"{verdict.confidence:.4g}"
    return (
        verdict.gate,
        verdict.model,
        verdict.bound,
        confidence,
        numbers,
        f"{verdict.n} {verdict.unit}",
        verdict.verdict + needs,
    )
