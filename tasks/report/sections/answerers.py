"""What the report tells of the engines that answered benchmarks."""

from __future__ import annotations

from collections.abc import Iterable

from conf.engines.table import ENGINES
from conf.report.benchmarks import Answerer, BenchmarkRow

SIMULATED = "Answered here, with transformers; what formats round is simulated."
THE_REST = (
    "imbik answers with transformers and simulates what formats round. Loss, KL and the evaluations during training are"
    " measured so, whoever answers the benchmarks."
)


def notes(rows: Iterable[BenchmarkRow]) -> tuple[str, ...]:
    """Who answered and with what kernels, each model once for all benchmarks."""
    asked = {
        (row.model, row.scores.answered_by.title): row.scores.answered_by for row in rows if row.scores.answered_by
    }
    if not asked:
        return (SIMULATED,)
    kernels = [f"{model} {', '.join(one.kernels)}" for (model, _), one in asked.items() if one.kernels]
    return (
        THE_REST,
        *([f"Kernels of quantized layers: {'; '.join(kernels)}."] if kernels else []),
        *(
            f"{model}: the engine's key-value cache was {one.cache} there, not the model's own."
            for (model, _), one in asked.items()
            if not one.own_cache
        ),
        *dict.fromkeys(note for one in asked.values() if (note := _untested(one))),
    )


def _untested(one: Answerer) -> str:
    """That what imbik knows of vLLM is about another version."""
    known = ENGINES["vllm"].version
    if one.engine != "vLLM" or one.version is None or one.version == known or one.version.startswith(f"{known}."):
        return ""
    return f"vLLM {one.version} is not the version that imbik was tested with ({known})."
