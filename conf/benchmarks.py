"""The benchmarks beside MMLU, by name."""

from __future__ import annotations

from typing import Literal, get_args

BenchmarkName = Literal[
    "gsm8k", "math", "arc_easy", "arc_challenge", "humaneval", "mbpp", "hellaswag", "winogrande", "mmlu_pro", "ifeval"
]
BENCHMARKS: tuple[str, ...] = get_args(BenchmarkName)
SCORED_CHOICES: tuple[BenchmarkName, ...] = ("arc_easy", "arc_challenge", "hellaswag", "winogrande")
"""Benchmarks whose choices are scored; the others are answered in text."""
PROGRAMS: tuple[BenchmarkName, ...] = ("humaneval", "mbpp")
"""Benchmarks whose answers are programs."""
LEAST_CHANCE: dict[str, float] = {
    "arc_easy": 1 / 5,
    "arc_challenge": 1 / 5,
    "hellaswag": 1 / 4,
    "winogrande": 1 / 2,
    "mmlu_pro": 1 / 10,
}
"""Share of guesses that are right where questions have the most options; for the others guessing is hopeless."""
NUM_QUESTIONS: dict[str, int] = {
    "gsm8k": 1_319,
    "math": 500,
    "arc_easy": 2_376,
    "arc_challenge": 1_172,
    "humaneval": 164,
    "mbpp": 500,
    "hellaswag": 10_042,
    "winogrande": 1_267,
    "mmlu_pro": 12_032,
    "ifeval": 541,
}
"""Questions of the whole published split."""
