"""A model's responses to the questions of a benchmark."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from conf.spec import Spec
from conf.stages.answer import AnswerConfig
from jobs.benchmarks.files import Numbered, QuestionSet, ResponseFile, read_questions, read_responses
from jobs.runtime import interrupt
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.benchmarks.answering import Plan


def run(spec: Spec) -> None:
    """Inputs: model, questions. Writes responses.jsonl, a line per question and sample, and answer.json."""
    from jobs.benchmarks import answering

    config, output = AnswerConfig.model_validate(spec.config), Path(spec.output)
    directory, asked = Path(spec.inputs["model"]) / "model", read_questions(Path(spec.inputs["questions"]))
    if asked.benchmark.kind == "choice":  # the log probabilities are the same in every sample
        config = config.model_copy(update={"samples": 1})
    made, metrics = answering.plan(directory, asked, config), Metrics(output)
    file = ResponseFile(output / "responses.jsonl", [batch.responses for batch in made.batches])
    total, done = len(asked.questions), sum(len(batch.prompts) for batch in made.batches[: file.batches_done])
    metrics.rewind(done)
    if done:
        print(f"{done} of {total} questions already answered")
    if done < total:
        rest = iter(made.batches[file.batches_done :])
        answers = _answers(directory, asked, made, config, output, file.batches_done)
        with (
            interrupt.stoppable(lambda: f"with {done} of {total} questions answered"),
            contextlib.closing(answers),
        ):
            for responses in answers:
                file.add(responses)
                done += len(next(rest).prompts)
                metrics.log(done, total)
                interrupt.give_up_if_stopping()
    from jobs.benchmarks import engines

    facts = {
        "benchmark": asked.benchmark.name,
        "chat": made.chat,
        "max_new_tokens": made.max_new_tokens,
        "samples": config.samples,
        "tokens": sum(response.tokens for response in read_responses(output)),
    } | ({"answered_by": engines.facts(output)} if config.engine else {})
    (output / "answer.json").write_text(json.dumps(facts, indent=2) + "\n")


def _answers(
    directory: Path, asked: QuestionSet, made: Plan, config: AnswerConfig, output: Path, done: int
) -> Generator[list[Numbered], None, None]:
    """The responses of each batch after the first `done`."""
    from jobs.benchmarks import answering, engines

    if config.engine:
        yield from engines.answer(directory, asked, made, config, output, done)
    else:
        yield from answering.answer(_load(directory, config), directory, asked, made, config, done)


def _load(directory: Path, config: AnswerConfig) -> PreTrainedModel:
    import torch

    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    return quantized.load(directory, dtype) if quantized.is_quantized(directory) else hf.load_model(directory, dtype)


if __name__ == "__main__":
    main(run)
