"""The stages of the benchmarks beside MMLU: the questions once for all models, then each model's answers and their
judgement."""

from __future__ import annotations

from typing import Any

from conf.benchmarks import BenchmarkName
from conf.stages.evaluate import EvaluateConfig
from conf.stages.judge import JudgeConfig
from flows.reading import Handle, Model, Stages
from tasks.store.store import Artifact

Questions = dict[BenchmarkName, Handle]


def read(stage: Stages, evaluate: EvaluateConfig, files: dict[BenchmarkName, Artifact]) -> Questions:
    """The questions of each benchmark, from its files."""
    return {
        name: stage(f"questions-{name}", benchmark.questions(name), questions=files[name])
        for name, benchmark in evaluate.benchmarks.items()
    }


def ask(stage: Stages, evaluate: EvaluateConfig, questions: Questions, model: Model) -> None:
    """Let a model answer each benchmark; `model.judged` gets its scores."""
    for name, benchmark in evaluate.benchmarks.items():
        given: dict[str, Any] = {"model": model.artifact, "of": model.student, "cut": model.cut}
        config = benchmark.answer(evaluate.precision)
        answers = stage(f"answer-{model.name}-{name}", config, questions=questions[name], **given)
        model.judged[name] = stage(
            f"judge-{model.name}-{name}", JudgeConfig(), questions=questions[name], answers=answers
        )
