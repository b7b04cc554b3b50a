"""A benchmark's settings, and the settings of the stages that read and answer it."""

from __future__ import annotations

import pytest

from conf.engines.asked import AnsweredBy
from conf.stages.benchmark import Benchmark
from tests.fixtures.stages import refused

SAME = "samples is 2 but temperature 0 gives the same answer every time; raise the temperature"


def test_samples_of_one_answer_are_refused() -> None:
    refused(Benchmark, {"samples": 2, "temperature": 0}, SAME)


@pytest.mark.parametrize(("samples", "temperature"), [(1, 0), (1, 0.5), (2, 0.5)])
def test_samples_that_differ_are_taken(samples: int, temperature: float) -> None:
    assert Benchmark(samples=samples, temperature=temperature).samples == samples


def test_its_stages_have_its_settings() -> None:
    asked = Benchmark(path="/q.jsonl", shots=3, limit=7, chat="auto", max_new_tokens=9, batch=5, seed=4)
    questions = asked.questions("gsm8k")
    assert (questions.benchmark, questions.path, questions.shots, questions.limit) == ("gsm8k", "/q.jsonl", 3, 7)
    answer = asked.answer("fp32", AnsweredBy(name="vllm"))
    assert (answer.chat, answer.max_new_tokens, answer.batch, answer.seed) == ("auto", 9, 5, 4)
    assert answer.precision == "fp32" and answer.engine == AnsweredBy(name="vllm")
