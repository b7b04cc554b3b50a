"""The stages of the benchmarks beside MMLU: the questions once for all models, then each model's answers and their
judgement."""

from __future__ import annotations

from typing import Any

from conf.benchmarks import BenchmarkName
from conf.recipe import Recipe
from conf.stages.decontaminate import Decontaminate
from conf.stages.distill import DistillConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.judge import JudgeConfig
from flows.reading import Handle, Model, Stages
from tasks.inputs import ExternalInputs
from tasks.store.store import Artifact

Questions = dict[BenchmarkName, Handle]


def read(stage: Stages, asks: EvaluateConfig | Decontaminate, files: dict[BenchmarkName, Artifact]) -> Questions:
    """The questions of each benchmark that `asks` names, from its files."""
    return {
        name: stage(f"questions-{name}", benchmark.questions(name), questions=files[name])
        for name, benchmark in asks.benchmarks.items()
    }


def looked_for(
    recipe: Recipe, outside: ExternalInputs, questions: Questions, data: Handle | None = None
) -> dict[str, Any]:
    """Inputs of a stage that takes the questions out of its text; empty where contamination changes nothing. `data` is
    the corpus that has the world's quiz."""
    taken_out = recipe.data_stage.decontaminate
    if taken_out is None:
        return {}
    quiz = data if taken_out.mmlu and taken_out.mmlu.path == "quiz" else None
    return roles(questions) | {"mmlu": outside.mmlu, "quiz": quiz}


def roles(questions: Questions) -> dict[str, Any]:
    """The questions of all benchmarks as inputs of one stage."""
    return {f"questions-{name}": handle for name, handle in questions.items()}


class Watched:
    """The questions that distillations ask on their way: no more than they ask, so that a longer benchmark in the
    report teaches nobody again."""

    def __init__(self, stage: Stages, recipe: Recipe, files: dict[BenchmarkName, Artifact], report: Questions) -> None:
        self.stage, self.recipe, self.files = stage, recipe, files
        self.made: dict[tuple[BenchmarkName, int | None], Handle] = {
            (name, recipe.evaluate.benchmarks[name].limit): handle for name, handle in report.items()
        }

    def of(self, config: DistillConfig) -> dict[str, Any]:
        """Those of one distillation, as its inputs."""
        found: Questions = {}
        for name, asked in config.evaluate_benchmarks.items():
            if (name, asked.limit) not in self.made:
                questions = self.recipe.evaluate.benchmarks[name].questions(name)
                fewer = questions.model_copy(update={"limit": asked.limit})
                label = f"questions-{name}-first-{asked.limit}"
                self.made[name, asked.limit] = self.stage(label, fewer, questions=self.files[name])
            found[name] = self.made[name, asked.limit]
        return roles(found)


def ask(stage: Stages, evaluate: EvaluateConfig, questions: Questions, model: Model) -> None:
    """Let a model answer each benchmark; `model.judged` gets its scores."""
    for name, benchmark in evaluate.benchmarks.items():
        given: dict[str, Any] = {"model": model.artifact, "of": model.student, "cut": model.cut}
        config = benchmark.answer(evaluate.precision, evaluate.engine.by(model.name))
        label = model.name.replace("/", "-")  # of a model that a command names, as in demo/depth
        answers = stage(f"answer-{label}-{name}", config, questions=questions[name], **given)
        model.judged[name] = stage(f"judge-{label}-{name}", JudgeConfig(), questions=questions[name], answers=answers)
