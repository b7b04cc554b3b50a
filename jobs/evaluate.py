"""Measures one model: loss and distance from its teacher on the test split, multiple-choice questions, size and speed.

ModelOpt simulates the quantization of a quantized checkpoint, and the scores say so; its speed is then not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.mmlu_files import Subject
from conf.spec import Spec
from conf.stages.evaluate import EvaluateConfig
from jobs.evaluation.measure import check, long_sequences, measure, questions, sequences
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    from transformers import PreTrainedModel


UNMEASURED = (
    *(
        "mmlu",
        "mmlu_n",
        "mmlu_stderr",
        "mmlu_ci95",
        "mmlu_subjects",
        "mmlu_chance",
        "mmlu_style",
        "mmlu_truncated",
        "shots",
    ),
    *("tokens_per_second", "latency_seconds"),
)


def run(spec: Spec) -> None:
    """Inputs: model, teacher, data, and mmlu where it is a separate folder. Writes scores.json, items.jsonl (each
    question's answer) and sequences.json (each test sequence's loss, KL and agreement), so that models can be compared
    in pairs; with records also responses.json (those of their test split), with long_text long.json."""
    config = EvaluateConfig.model_validate(spec.config)
    output = Path(spec.output)
    directory, teacher, data = (
        Path(spec.inputs["model"]) / "model",
        Path(spec.inputs["teacher"]) / "model",
        Path(spec.inputs["data"]),
    )
    check(directory, teacher, data, config)
    subjects, samples = questions(spec, config, data), sequences(config, data)

    from jobs.evaluation import long_text, responses
    from jobs.huggingface import model as hf

    long = long_sequences(config, data)
    response_split = responses.test_split(Path(spec.inputs["records"]), directory) if "records" in spec.inputs else None
    num_records = min(config.sequences, len(response_split)) if response_split else 0
    num_long = 0 if config.long_text is None or long is None else long_text.count(config.long_text, len(long))
    progress = _Progress(output, len(samples) + _num_questions(subjects, config) + num_records + num_long)

    def respond(model: PreTrainedModel) -> None:
        if config.long_text is not None and long is not None:
            found = long_text.measure(model, hf.load_tokenizer(directory), long, config.long_text, progress)
            (output / "long.json").write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
        if response_split:
            scores = responses.score(model, response_split, config.sequences, config.batch, progress)
            (output / "responses.json").write_text(json.dumps(scores, allow_nan=False) + "\n")

    there: dict[str, Any] = {}
    answered: list[dict[str, Any]] = []
    if config.mmlu_by and subjects:  # the engine has ended before the model is loaded here
        from jobs.benchmarks import engines

        there, answered = engines.multiple_choice(config.mmlu_by, directory, subjects, config, output, progress)
        subjects, config = [], config.model_copy(update={"mmlu": None})
    scores, items, rows = measure(directory, teacher, samples, subjects, config, progress, respond)
    scores, items = scores | there, items + answered
    (output / "sequences.json").write_text(json.dumps(rows, allow_nan=False) + "\n")
    with (output / "items.jsonl").open("w") as stream:
        stream.writelines(json.dumps(item) + "\n" for item in items)
    (output / "scores.json").write_text(
        json.dumps(dict.fromkeys(UNMEASURED) | scores, indent=2, allow_nan=False) + "\n"
    )


def _num_questions(subjects: list[Subject], config: EvaluateConfig) -> int:
    limit = config.mmlu.limit if config.mmlu else None
    return sum(min(len(subject.test), limit or len(subject.test)) for subject in subjects)


class _Progress:
    """Sequences scored and questions answered, as one count."""

    def __init__(self, output: Path, total: int) -> None:
        self.metrics = Metrics(output)
        self.metrics.rewind(0)
        self.done = 0
        self.total = total

    def __call__(self, count: int) -> None:
        self.done += count
        self.metrics.log(self.done, self.total)


if __name__ == "__main__":
    main(run)
