"""Checks of the benchmarks that are asked while a student learns, and what that costs in questions."""

from __future__ import annotations

from collections.abc import Iterator

from conf.benchmarks import BENCHMARKS, NUM_QUESTIONS, PROGRAMS, SCORED_CHOICES, BenchmarkName
from conf.checks.asked import check_asked
from conf.recipe import Recipe
from conf.stages.early_stopping import WithEarlyStopping
from conf.stages.watched import WatchedBenchmark


def check_watched(recipe: Recipe) -> None:
    """Raise ValueError for a benchmark that an evaluation during training does not know or cannot ask."""
    for where, config in _distillations(recipe):
        for name, asked in config.evaluate_benchmarks.items():
            _check(recipe, f"{where}.evaluate_benchmarks.{name}", name, asked)
        if config.best_by in BENCHMARKS and config.best_by not in config.evaluate_benchmarks:
            raise ValueError(
                f"{where}.best_by is {config.best_by} but {where}.evaluate_benchmarks does not ask it; add it there, as"
                f" in {where}.evaluate_benchmarks={{{config.best_by}: {{limit: 50}}}}"
            )


def _check(recipe: Recipe, where: str, name: BenchmarkName, asked: WatchedBenchmark) -> None:
    check_asked(where, name, recipe.evaluate, "leave it out here", is_what="asked")
    if name in PROGRAMS:
        raise ValueError(
            f"{where} is set, but the answers to {name} are programs, which only a job of their own may run; leave it"
            f" out here: the finished models answer {name} all the same"
        )
    if name not in SCORED_CHOICES and asked.limit is None:
        raise ValueError(
            f"{where}.limit is empty, but the answers to {name} are text, whose writing stops the training every time;"
            " set limit, as in 50"
        )


def watched_told(recipe: Recipe) -> list[str]:
    """A sentence for each distillation that asks benchmarks on its way: how often, how many questions, of what
    length."""
    lines = []
    for name in recipe.students:
        config = recipe.distill_of(name)
        if config and config.evaluate_every and config.evaluate_benchmarks:
            times = len({*range(0, config.steps, config.evaluate_every), config.steps})
            asked = ", ".join(_amount(recipe, one, settings) for one, settings in config.evaluate_benchmarks.items())
            lines.append(f"{name} is asked {times} times while it learns: {asked} each time")
    return lines


def _amount(recipe: Recipe, name: BenchmarkName, asked: WatchedBenchmark) -> str:
    if asked.limit:
        count = f"{asked.limit:,} questions of {name}"
    elif recipe.evaluate.benchmarks[name].path:
        count = f"all questions of {name}"
    else:
        count = f"all {NUM_QUESTIONS[name]:,} questions of {name}"
    if name in SCORED_CHOICES:
        return f"{count} (a pass for each choice)"
    length = f"up to {asked.max_new_tokens:,} tokens" if asked.max_new_tokens else "as many tokens as lm-eval allows"
    return f"{count} ({length} for each)"


def _distillations(recipe: Recipe) -> Iterator[tuple[str, WithEarlyStopping]]:
    """Settings of distillations, with their place."""
    if recipe.distill:
        yield "distill", recipe.distill
    for name, student in recipe.students.items():
        if student.distill:
            yield f"students.{name}.distill", student.distill
        for number, round_ in enumerate(student.rounds or (), start=1):
            if round_.distill:
                yield f"students.{name}.rounds.{number}.distill", round_.distill
