"""Asks a student that still learns the questions of benchmarks, in the way of the answer and judge stages.

Owns what such an evaluation is made of; knows nothing about how the student is trained or exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from conf.stages.answer import AnswerConfig
from jobs.benchmarks import answering
from jobs.benchmarks.asked import ROLE
from jobs.benchmarks.files import QuestionSet, read_questions
from jobs.benchmarks.judging import judge
from jobs.evaluation.intervals import wilson

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from conf.base import Precision
    from conf.benchmarks import BenchmarkName
    from conf.stages.watched import WatchedBenchmark


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A benchmark's questions, and how the student answers them."""

    asked: QuestionSet
    config: AnswerConfig

    def score(self, model: PreTrainedModel, directory: Path) -> dict[str, float]:
        """Share of right answers of a model, by the benchmark's name; with `_n`, and `_low` and `_high`: its 95%
        interval (Wilson). `directory` holds its tokenizer."""
        made = answering.plan(directory, self.asked, self.config)
        batches = answering.answer(model, directory, self.asked, made, self.config, 0)
        pairs = [(self.asked.questions[one.question], one.response) for batch in batches for one in batch]
        benchmark = self.asked.benchmark
        right = sum(verdict.correct for verdict in judge(benchmark, pairs, {}, workers=1, memory=0))
        (low, high), name = wilson(right, len(pairs)), benchmark.name
        return {name: right / len(pairs), f"{name}_n": len(pairs), f"{name}_low": low, f"{name}_high": high}


def watched(
    inputs: dict[str, str], wanted: Mapping[BenchmarkName, WatchedBenchmark], precision: Precision, student: Path
) -> list[Watched]:
    """The benchmarks of a distillation, read from its `inputs`. Raises ValueError where the student, in the folder
    `student`, has no room for a question or lacks a chat template that it needs."""
    found = []
    for name, settings in wanted.items():
        how = settings.model_dump(exclude={"limit"}, exclude_none=True)
        one = Watched(asked=read_questions(Path(inputs[ROLE + name])), config=AnswerConfig(**how, precision=precision))
        answering.plan(student, one.asked, one.config)
        found.append(one)
    return found
