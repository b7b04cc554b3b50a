"""The report's sections, one module each: what it reads of a run's artifacts, and its text."""

from tasks.report.sections import (
    attempts,
    benchmarks,
    claims,
    contamination,
    filters,
    gates,
    ladder,
    learning,
    logits,
    pruning,
    quantization,
    responses,
    rounds,
    search,
    sweep,
    text,
)

__all__ = [
    "attempts",
    "benchmarks",
    "claims",
    "contamination",
    "filters",
    "gates",
    "ladder",
    "learning",
    "logits",
    "pruning",
    "quantization",
    "responses",
    "rounds",
    "search",
    "sweep",
    "text",
]
