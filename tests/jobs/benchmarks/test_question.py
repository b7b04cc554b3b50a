"""What a benchmark does whose row says no more than it must."""

from __future__ import annotations

from jobs.benchmarks import choices
from jobs.benchmarks.judging import judge
from jobs.benchmarks.prompts import prompts
from jobs.benchmarks.question import Benchmark, Question, Response
from jobs.benchmarks.reading import Questions

PLAIN = Benchmark(name="p", kind="number", hub="o/p", keys="q", parse=lambda row: Question(**row))
QUESTIONS = [Question(id=str(number), text=f"{number}?", answer=f"#### {number}") for number in range(5)]


def test_the_first_worked_examples_are_shown() -> None:
    """Also the question itself among them, with a space before each answer and nothing before the first."""
    made = list(prompts(PLAIN, Questions(test=QUESTIONS[:2], examples=QUESTIONS), 2))
    assert made == [f"0? #### 0\n\n1? #### 1\n\n{number}?" for number in (0, 1)]
    assert list(prompts(PLAIN, Questions(test=QUESTIONS[:1], examples=QUESTIONS), PLAIN.shots)) == ["0?"]


def test_an_open_answer_cannot_be_guessed() -> None:
    assert QUESTIONS[0].chance == 0 and PLAIN.wanted(QUESTIONS[0])
    assert (PLAIN.max_new_tokens, PLAIN.drawn, PLAIN.spare_draws) == (0, False, 0)


def test_of_choices_the_likelier_is_taken_not_the_denser() -> None:
    row = {"sentence": "Ann saw _ .", "option1": "E", "option2": "Everybody", "answer": "1"}
    plain = Benchmark(name="p", kind="choice", hub="o/p", keys="q", parse=choices.winogrande)
    (verdict,) = judge(plain, [(plain.parse(row), Response(logprobs=(-4.0, -6.0)))], {}, 1, 0)
    assert verdict.correct and verdict.others == {"acc": True, "acc_norm": False}
