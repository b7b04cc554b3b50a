"""What a model is shown: the benchmark's instruction, worked examples, the question; string by string as lm-eval's
tasks make it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from jobs.benchmarks.question import Benchmark, Question
from jobs.benchmarks.reading import Questions

EXAMPLES_SEED = 1234
"""lm-eval's seed for drawing worked examples."""
BETWEEN = "\n\n"


def prompts(benchmark: Benchmark, questions: Questions, shots: int) -> Iterator[str]:
    """The prompt of each question, in order. Where examples are drawn, they depend on the question's position: a
    question has the same prompt with any limit."""
    draws = random.Random(EXAMPLES_SEED)
    for question in questions.test:
        pool = [example for example in questions.examples if example.group == question.group]
        examples = _drawn(benchmark, question, pool, shots, draws) if benchmark.drawn and shots else pool[:shots]
        worked = "".join(_worked(benchmark, example) + BETWEEN for example in examples)
        yield benchmark.description(question) + worked + question.text


def _drawn(
    benchmark: Benchmark, question: Question, pool: list[Question], shots: int, draws: random.Random
) -> list[Question]:
    sample = draws.sample(pool, shots + benchmark.spare_draws)
    return [example for example in sample if not benchmark.spare_draws or example != question][:shots]


def _worked(benchmark: Benchmark, example: Question) -> str:
    if example.choices and example.choices[0].context:  # the answer of a question with a gap begins it
        return example.answer
    return example.text + benchmark.delimiter + example.answer
