"""The report's section on gates: every bound, what was measured, the verdict, and the models that were not built."""

from __future__ import annotations

from conf.report.gates import Verdict
from conf.report.section import Section
from tasks.analysis.verdicts import format_estimate

HEADER = ("gate", "model", "bound", "confidence", "measured", "n", "verdict")


def section(verdicts: tuple[Verdict, ...], stopped: dict[str, str]) -> Section | None:
    """The section, None where the recipe has no gates; `stopped` is the gate that stopped each model not built."""
    if not verdicts:
        return None
    closed = [verdict for verdict in verdicts if verdict.verdict != "passed"]
    sentences = [f"{verdict.sentence[0].upper()}{verdict.sentence[1:]}." for verdict in closed]
    sentences += [f"{model} was not built: gate {gate} stopped its student." for model, gate in stopped.items()]
    return Section(
        title="Gates",
        sentences=tuple(sentences or ["Every gate passed."]),
        header=HEADER,
        rows=tuple(_row(verdict) for verdict in verdicts),
        notes=(
            (
                "A bound must hold at the worse end of the two-sided interval at the given confidence; with confidence"
                " none, the estimate decides. Comparisons are paired over the same questions (differences: Newcombe;"
                " ratios: Bonett and Price; p: exact McNemar test of no difference) or the same test sequences"
                " (Student's t). 'Not shown' means that the estimate meets the bound but its interval does not; it"
                " stops a student as 'failed' does."
            ),
        ),
    )


def _row(verdict: Verdict) -> tuple[str, ...]:
    estimate = format_estimate(verdict.confidence, verdict.measured, verdict.low, verdict.high)
    if verdict.p is not None:
        estimate += f", p = {verdict.p:.2g}"
    needs = f"; needs about {verdict.needs:,}" if verdict.needs else ""
    confidence = "none" if verdict.confidence is None else f"{verdict.confidence:.4g}"
    return (
        verdict.gate,
        verdict.model,
        verdict.bound,
        confidence,
        estimate,
        f"{verdict.n} {verdict.unit}",
        verdict.verdict + needs,
    )
