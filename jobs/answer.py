"""A model's responses to the questions of a benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from conf.spec import Spec
from conf.stages.answer import AnswerConfig
from jobs.benchmarks.files import ResponseFile, read_questions, read_responses
from jobs.runtime import interrupt
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        model = _load(directory, config)
        rest = iter(made.batches[file.batches_done :])
        with interrupt.stoppable():
            for responses in answering.answer(model, directory, asked, made, config, file.batches_done):
                file.add(responses)
                done += len(next(rest).prompts)
                metrics.log(done, total)
                interrupt.raise_if_stopping(f"with {done} of {total} questions answered")
    facts = {
        "benchmark": asked.benchmark.name,
        "chat": made.chat,
        "max_new_tokens": made.max_new_tokens,
        "samples": config.samples,
        "tokens": sum(response.tokens for response in read_responses(output)),
    }
    (output / "answer.json").write_text(json.dumps(facts, indent=2) + "\n")


def _load(directory: Path, config: AnswerConfig) -> PreTrainedModel:
    import torch

    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    return quantized.load(directory, dtype) if quantized.is_quantized(directory) else hf.load_model(directory, dtype)


if __name__ == "__main__":
    main(run)
