"""Differences and sizes in words: a gain is called a gain, and what an interval does not show is not called one."""

from __future__ import annotations

from conf.report.row import Difference


def nats(change: float, *, verbs: tuple[str, str] = ("loses", "gains")) -> str:
    """A change of a loss in nats: positive is lost, negative is gained."""
    size = abs(change)
    number = f"{size:.3f}" if size >= 0.01 else f"{size:.4f}"
    if float(number) == 0:
        return f"{verbs[0]} nothing (below 0.0001 nats)" if change else f"{verbs[0]} nothing"
    return f"{verbs[change < 0]} {number} nats"


def size(ratio: float) -> str:
    """The size of a model relative to another, as a factor: '3.4 times smaller'."""
    factor = 1 / ratio if ratio < 1 else ratio
    if factor < 1.05:
        return "as large"
    return f"{factor:.1f} times {'smaller' if ratio < 1 else 'larger'}"


def points(difference: float, low: float, high: float) -> str:
    """A paired difference in score with its 95% interval."""
    return f"{difference * 100:+.1f} points (95% {low * 100:+.1f} to {high * 100:+.1f})"


def score(against: Difference) -> str:
    """A paired difference in score as the end of a sentence; empty where no score was measured."""
    if against.mmlu is None or against.mmlu_ci95 is None:
        return ""
    low, high = against.mmlu_ci95
    text = points(against.mmlu, low, high)
    if low <= 0 <= high:
        return f"no shown difference in score: {text}"
    return f"{'loses' if against.mmlu < 0 else 'gains'} score: {text}"


def megabytes(count: float) -> str:
    """Bytes as MB, or GB from 1,000 MB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def duration(seconds: float) -> str:
    """Seconds as days, hours, minutes or seconds."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.1f} days"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s" if seconds >= 60 else f"{seconds:.1f} s"
