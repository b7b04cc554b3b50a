"""Whether responses are right: one way for a model's responses and for the reference solutions, which check it.

A choice, a number, an expression or a letter is compared with the question's; a program is run with its tests in the
sandbox."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.benchmarks import choices, expressions, letters, numerals, programs, rules
from jobs.benchmarks.question import Benchmark, Question, Response
from jobs.benchmarks.sandbox import Sandbox

REFERENCE_SECONDS = 30.0
MIN_SECONDS = 3.0
TIMES_REFERENCE = 4.0
"""A program may take this many times the processor seconds of the reference solution."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a response is right, what was extracted from it (None: nothing), and why a program failed.

    `others` are further ways to score it, of one judgement each or of several parts."""

    correct: bool
    extracted: str | None
    reason: str = ""
    seconds: float = 0.0
    others: Mapping[str, bool | list[bool]] | None = None


def judge(
    benchmark: Benchmark,
    pairs: list[tuple[Question, Response]],
    seconds: dict[str, float],
    workers: int,
    memory: int,
) -> Iterator[Verdict]:
    """The verdict on each response, in order. `seconds` is the limit of each question's program by id."""
    if benchmark.kind != "code":
        yield from (_compared(benchmark, question, response) for question, response in pairs)
        return
    bodies = [programs.program(question, response.text) for question, response in pairs]
    runnable = [
        (body, seconds.get(question.id, REFERENCE_SECONDS))
        for body, (question, _) in zip(bodies, pairs, strict=True)
        if body is not None
    ]
    with Sandbox(memory=memory) as sandbox:
        outcomes = sandbox.run_all(runnable, workers)
        for body, (question, response) in zip(bodies, pairs, strict=True):
            if body is None:
                yield Verdict(correct=False, extracted=None, reason="no code")
                continue
            outcome = next(outcomes)
            yield Verdict(
                correct=outcome.passed,
                extracted=programs.extract(question, response.text),
                reason=outcome.reason,
                seconds=outcome.seconds,
            )


def _compared(benchmark: Benchmark, question: Question, response: Response) -> Verdict:
    if benchmark.kind == "choice":
        best = {by: choices.best(question, response.logprobs, by_length=by) for by in (False, True)}
        others = {"acc": best[False] == question.gold, "acc_norm": best[True] == question.gold}
        answer = best[benchmark.by_length]
        return Verdict(correct=answer == question.gold, extracted=answer, others=others)
    if benchmark.kind == "letter":
        letter = letters.extract(response.text)
        return Verdict(correct=letter == question.gold, extracted=letter)
    if benchmark.kind == "rules":
        return _ruled(question, response.text)
    if benchmark.kind == "expression":
        expression = expressions.extract(response.text)
        correct = expression is not None and expressions.equal(expression, question.gold)
        return Verdict(correct=correct, extracted=expression)
    number = numerals.extract(response.text)
    others = numerals.lm_eval_scores(question, response.text)
    return Verdict(correct=number == question.gold, extracted=number, others=others)


def _ruled(question: Question, text: str) -> Verdict:
    """lm-eval's four scores of ifeval: to the letter or nearly, of whole prompts and of single instructions."""
    strict, loose = rules.followed(question, text), rules.nearly_followed(question, text)
    others: dict[str, bool | list[bool]] = {"inst_strict": strict, "prompt_loose": all(loose), "inst_loose": loose}
    kept = f"{sum(strict)} of {len(strict)} instructions" if text.strip() else None
    return Verdict(correct=all(strict), extracted=kept, others=others)


def reference(benchmark: Benchmark, question: Question) -> Response:
    """The response of a model that answers with the reference."""
    if benchmark.kind == "choice":
        return choices.reference(question)
    text = question.answer
    for stop in benchmark.stops:
        text = text.partition(stop)[0]
    return Response(text=text, stop="stop")


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The questions whose reference solution is right, the limit of each one's program in processor seconds, and why
    the others failed."""

    questions: list[Question]
    seconds: dict[str, float]
    failed: dict[str, str]


def check_references(benchmark: Benchmark, questions: list[Question], workers: int, memory: int) -> Checked:
    """Judge the reference solutions as a model's responses are judged: what they fail says nothing about a model."""
    if benchmark.kind == "rules":  # which have no one answer
        return Checked(questions=questions, seconds={}, failed={})
    pairs = [(question, reference(benchmark, question)) for question in questions]
    verdicts = list(judge(benchmark, pairs, {}, workers, memory))
    judged = list(zip(questions, verdicts, strict=True))
    failed = {
        question.id: verdict.reason or f"the reference gives {verdict.extracted}, not {question.gold}"
        for question, verdict in judged
        if not verdict.correct
    }
    seconds = {
        question.id: max(MIN_SECONDS, TIMES_REFERENCE * verdict.seconds)
        for question, verdict in judged
        if verdict.correct and benchmark.kind == "code"
    }
    good = [question for question in questions if question.id not in failed]
    if not good:
        example = next(iter(failed.items()))
        raise ValueError(
            f"no reference solution of {benchmark.name} passes ({example[0]!r}: {example[1]}); the file is not what it"
            " seems"
        )
    return Checked(questions=good, seconds=seconds, failed=failed)


def shares_of_others(verdicts: list[Verdict]) -> dict[str, Any]:
    """Shares of the further ways to score, by name."""
    names = {name for verdict in verdicts for name in verdict.others or {}}
    found = {name: [(verdict.others or {})[name] for verdict in verdicts] for name in sorted(names)}
    flat = {
        name: [part for one in values for part in (one if isinstance(one, list) else [one])]
        for name, values in found.items()
    }
    return {name: sum(parts) / len(parts) for name, parts in flat.items()}
