"""Measures one model: loss and distance from its teacher on the test split, multiple-choice questions, size and speed.

A quantized checkpoint is run with its quantization simulated by ModelOpt, and the scores say so; its speed is then not measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.evaluate import EvaluateConfig
from conf.spec import Spec
from jobs.entry import Metrics, main

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from jobs.mmlu import Subject

UNMEASURED = (
    *("mmlu", "mmlu_n", "mmlu_stderr", "mmlu_ci95", "mmlu_subjects", "mmlu_chance", "mmlu_style", "mmlu_truncated", "shots"),
    *("tokens_per_second", "latency_seconds"),
)


def run(spec: Spec) -> None:
    """Inputs: model, teacher, data, and mmlu where it is a folder of its own. Writes scores.json, items.jsonl (each
    question's answer) and sequences.json (each test sequence's loss, KL and agreement), so that models can be compared in pairs; with
    records also responses.json (those of their test split)."""
    config = EvaluateConfig.model_validate(spec.config)
    output = Path(spec.output)
    directory, teacher, data = Path(spec.inputs["model"]) / "model", Path(spec.inputs["teacher"]) / "model", Path(spec.inputs["data"])
    check(directory, teacher, data, config)
    subjects, samples = questions(spec, config, data), sequences(config, data)

    from jobs import responses

    answered = responses.test_split(Path(spec.inputs["records"]), directory) if "records" in spec.inputs else None
    num_records = min(config.sequences, len(answered)) if answered else 0
    progress = _Progress(output, len(samples) + _num_questions(subjects, config) + num_records)

    def respond(model: PreTrainedModel) -> None:
        if answered:
            told = responses.score(model, answered, config.sequences, config.batch, progress)
            (output / "responses.json").write_text(json.dumps(told, allow_nan=False) + "\n")

    scores, items, rows = measure(directory, teacher, samples, subjects, config, progress, respond)
    (output / "sequences.json").write_text(json.dumps(rows, allow_nan=False) + "\n")
    with (output / "items.jsonl").open("w") as stream:
        stream.writelines(json.dumps(item) + "\n" for item in items)
    (output / "scores.json").write_text(json.dumps(dict.fromkeys(UNMEASURED) | scores, indent=2, allow_nan=False) + "\n")


def check(directory: Path, teacher: Path, data: Path, config: EvaluateConfig) -> None:
    """Refuse, before anything is loaded, models that cannot be compared or do not fit the tokens."""
    from jobs import hf

    ours, theirs = hf.check(directory), hf.check(teacher)
    if ours["vocab_size"] != theirs["vocab_size"]:
        raise ValueError(
            f"{directory} has {ours['vocab_size']} vocabulary rows and the teacher {theirs['vocab_size']}; "
            "they can only be compared over one vocabulary"
        )
    hf.check_tokens(directory, data)
    for settings in (ours, theirs):
        hf.check_length(settings, config.seq_length)
    longest = ours.get("max_position_embeddings")
    if config.new_tokens and longest is not None and config.prompt_tokens + config.new_tokens > longest:
        raise ValueError(
            f"evaluate.prompt_tokens {config.prompt_tokens} + new_tokens {config.new_tokens} is above the model's "
            f"max_position_embeddings {longest}; choose fewer"
        )


def questions(spec: Spec, config: EvaluateConfig, data: Path) -> list[Subject]:
    """The questions to ask, read first: a wrong subject must not cost a model's loading."""
    if config.mmlu is None:
        return []
    from jobs import mmlu

    if config.mmlu.path == "quiz":
        folder: Path | None = data / "quiz"
    elif config.mmlu.path:
        folder = Path(spec.inputs.get("mmlu", config.mmlu.path))
    else:
        folder = None
    return mmlu.read_subjects(folder, config.mmlu)


def sequences(config: EvaluateConfig, data: Path) -> NDArray[np.int64]:
    """The sequences to score [n, seq_length + 1]: the first of the test split."""
    from jobs.windows import Windows

    windows = Windows(data / "test", config.seq_length)
    return windows.take(range(min(config.sequences, len(windows))))


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

    def __call__(self, more: int) -> None:
        self.done += more
        self.metrics.log(self.done, self.total)


def measure(
    directory: Path,
    teacher: Path,
    samples: NDArray[np.int64],
    subjects: list[Subject],
    config: EvaluateConfig,
    progress: Callable[[int], None] = lambda done: None,
    also: Callable[[PreTrainedModel], None] = lambda model: None,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, list[float]]]:
    """Everything for scores.json, items.jsonl and sequences.json; `also` is given the model as well."""
    from jobs import hf, quantized, scoring

    simulated = quantized.is_quantized(directory)
    model = _load(directory, config)
    scores: dict[str, Any] = {"num_params": hf.num_params(model), "bytes": hf.weight_bytes(directory), "simulated": simulated}
    reference = None if teacher.resolve() == directory.resolve() else _load(teacher, config)
    values = scoring.score_sequences(model, reference, samples, config.batch, progress)
    scores |= scoring.summary(values, samples.shape[1] - 1)
    del reference
    also(model)
    items: list[dict[str, Any]] = []
    if config.mmlu is not None:
        from jobs import mmlu

        answered, items = mmlu.ask(model, hf.load_tokenizer(directory), subjects, config.mmlu, config.batch, progress)
        scores |= answered
    if config.new_tokens and not simulated:
        prompt = samples.reshape(-1)[: config.prompt_tokens]
        scores |= scoring.time_generation(model, prompt, config.new_tokens)
    elif simulated:
        print("tokens_per_second is not measured: the quantization is simulated, so its speed says nothing about an engine's")
    return scores, items, dict(zip(scoring.COLUMNS, values.T.tolist(), strict=True))


def _load(directory: Path, config: EvaluateConfig) -> PreTrainedModel:
    import torch

    from jobs import hf, quantized

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    return quantized.load(directory, dtype) if quantized.is_quantized(directory) else hf.load_model(directory, dtype)


if __name__ == "__main__":
    main(run)
