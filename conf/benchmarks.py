"""The benchmarks beside MMLU, by name."""

from __future__ import annotations

from typing import Literal

BenchmarkName = Literal[
    "gsm8k", "arc_easy", "arc_challenge", "humaneval", "mbpp", "hellaswag", "winogrande", "mmlu_pro"
]
SCORED_CHOICES: tuple[BenchmarkName, ...] = ("arc_easy", "arc_challenge", "hellaswag", "winogrande")
"""Benchmarks whose choices are scored; the others are answered in text."""
