"""Check that a recipe asks the benchmark that one of its decisions is made by."""

from __future__ import annotations

import difflib

from conf.benchmarks import BENCHMARKS
from conf.stages.evaluate import EvaluateConfig


def check_asked(
    where: str,
    metric: str,
    evaluate: EvaluateConfig,
    instead: str = "choose another metric",
    *,
    is_what: str = "",
) -> None:
    """Raise ValueError where `metric`, at the setting `where`, is a benchmark that is not asked."""
    if metric not in BENCHMARKS or metric in evaluate.benchmarks:
        return
    near = difflib.get_close_matches(metric, list(evaluate.benchmarks), n=1, cutoff=0.0)
    named = f"; the nearest that is asked is {near[0]}" if near else ""
    raise ValueError(
        f"{where} is {is_what or metric} but evaluate.benchmarks does not ask it; add evaluate.benchmarks.{metric} or"
        f" {instead}{named}"
    )
