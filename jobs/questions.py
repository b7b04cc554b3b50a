"""The questions of a benchmark: read once for all models, each with its prompt, after its reference solution has
passed."""

from __future__ import annotations

from pathlib import Path

from conf.spec import Spec
from conf.stages.questions import QuestionsConfig
from jobs.benchmarks.files import QuestionSet, write_questions
from jobs.benchmarks.judging import check_references
from jobs.benchmarks.prompts import prompts
from jobs.benchmarks.reading import Questions, read
from jobs.benchmarks.table import BENCHMARKS
from jobs.runtime.entry import Metrics, main


def run(spec: Spec) -> None:
    """Inputs: questions where they are local. Writes questions.jsonl and questions.json (counts, and why questions were
    left out)."""
    config, output = QuestionsConfig.model_validate(spec.config), Path(spec.output)
    benchmark = BENCHMARKS[config.benchmark]
    shots = benchmark.shots if config.shots is None else config.shots
    place = spec.inputs.get("questions", config.path)
    metrics = Metrics(output)
    metrics.rewind(-1)
    found = read(benchmark, Path(place) if place else None, shots)
    asked = Questions(test=found.test[: config.limit], examples=found.examples)
    shown = dict(zip([question.id for question in asked.test], prompts(benchmark, asked, shots), strict=True))
    checked = check_references(benchmark, asked.test, config.workers, config.program_memory)
    made = QuestionSet(
        benchmark=benchmark,
        shots=shots,
        left_out=checked.failed,
        questions=checked.questions,
        prompts=[shown[question.id] for question in checked.questions],
        seconds=checked.seconds,
    )
    more = {"other_splits": found.other_splits, "beyond_limit": len(found.test) - len(asked.test)}
    write_questions(output, made, more)
    metrics.log(len(asked.test), len(asked.test))
    print(f"{len(made.questions)} questions of {benchmark.name}, {shots}-shot; {_left_out(made)}")


def _left_out(made: QuestionSet) -> str:
    failed = made.left_out
    if made.benchmark.kind == "rules":
        return "it has no reference solutions"
    if not failed:
        return "all reference solutions are right"
    named = "; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:5])
    return f"{len(failed)} left out, as their own reference solution fails ({named})"


if __name__ == "__main__":
    main(run)
