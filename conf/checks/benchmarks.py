"""Checks of the benchmarks that a recipe asks, and of who answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from conf.benchmarks import SCORED_CHOICES
from conf.checks.asked import check_asked
from conf.checks.claims import students_models
from conf.checks.watched import check_watched
from conf.engines.verdict import title, verdict
from conf.recipe import Recipe
from conf.stages.evaluate import EvaluateConfig
from conf.stages.quantize import QuantizeConfig
from conf.wording import choices


def check_benchmarks(recipe: Recipe) -> None:
    """Raise ValueError where a benchmark's file is away, where choices that are scored should be a conversation, or
    where the engine cannot answer for the run's models."""
    for name, benchmark in recipe.evaluate.benchmarks.items():
        where = f"evaluate.benchmarks.{name}"
        check_path(where, benchmark.path)
        if name in SCORED_CHOICES and benchmark.chat == "always":
            raise ValueError(
                f"{where}.chat is always, but the choices of {name} are scored after the question, not answered in a"
                " conversation; leave chat out"
            )
    check_watched(recipe)
    if recipe.ladder:
        check_asked("ladder.metric", recipe.ladder.metric, recipe.evaluate, "choose val_loss")
    entries = [entry for name in recipe.students for entry in recipe.formats_of(name)]
    models = ["teacher", *(["teacher-sft"] if recipe.teacher_sft else []), *students_models(recipe)]
    check_engine(recipe.evaluate, models, entries)
    for where, evaluation in _evaluations(recipe):
        if evaluation and evaluation.engine.name != "simulate":
            raise ValueError(
                f"{where}.evaluation.engine is {evaluation.engine.name}, but a model that is still being trained is"
                " measured here; set it in evaluate.engine, which asks the finished models"
            )


def check_engine(evaluate: EvaluateConfig, models: Sequence[str], entries: Sequence[QuantizeConfig]) -> None:
    """Raise ValueError where the engine of `evaluate` has nothing to answer, or cannot answer for these models of the
    report, some of them quantized to `entries`."""
    engine = evaluate.engine
    if evaluate.mmlu_by:
        raise ValueError(
            "evaluate.mmlu_by is set, but it follows from evaluate.engine; set that, and leave mmlu_by out"
        )
    if engine.name == "simulate":
        return
    if not evaluate.benchmarks and not evaluate.mmlu:
        raise ValueError(
            f"evaluate.engine is {engine.name}, but evaluate.mmlu is null and evaluate.benchmarks is empty, and loss is"
            " measured here; name a benchmark, as in evaluate.benchmarks={gsm8k: {}}, or leave engine out"
        )
    if engine.name == "vllm":
        _check_formats(evaluate, entries)
    elif isinstance(engine.model, str) and len(models) > 1:
        raise ValueError(
            f"evaluate.engine.model is {engine.model}, but the run has {len(models)} models; say which of them it is,"
            f" as in {{{models[-1]}: {engine.model}}}; the others are simulated"
        )
    for name in engine.model if isinstance(engine.model, dict) else ():
        if name not in models:
            raise ValueError(
                f"evaluate.engine.model names {name}, which the run does not produce; {choices(name, models)}"
            )


def _check_formats(evaluate: EvaluateConfig, entries: Sequence[QuantizeConfig]) -> None:
    for entry in entries:
        if why := verdict("vllm", entry.contents).why:
            raise ValueError(
                f"evaluate.engine is vllm and quantize has {entry.name}, but {title('vllm')} {why[0]}; choose another"
                " format, or set evaluate.engine to simulate"
            )
    if entries and evaluate.precision == "fp32":
        raise ValueError(
            "evaluate.engine is vllm and evaluate.precision fp32, in which vLLM has no kernels for quantized models;"
            " set evaluate.precision to bf16"
        )


def _evaluations(recipe: Recipe) -> Iterator[tuple[str, EvaluateConfig | None]]:
    """Settings of evaluations during training, with their place."""
    if recipe.distill:
        yield "distill", recipe.distill.evaluation
    for name, student in recipe.students.items():
        if student.distill:
            yield f"students.{name}.distill", student.distill.evaluation
        for number, round_ in enumerate(student.rounds or (), start=1):
            if round_.distill:
                yield f"students.{name}.rounds.{number}.distill", round_.distill.evaluation


def check_path(where: str, path: str | None) -> None:
    """Raise ValueError where a benchmark's file is away; `where` is its setting."""
    if path and not Path(path).exists():
        raise ValueError(
            f"{where}.path is {path}, which does not exist (relative paths start at {Path.cwd()}); name a file or"
            " folder, or leave it out to use the hub"
        )
