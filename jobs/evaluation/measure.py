"""Measures one model, for the evaluate stage and for evaluations during distillation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.mmlu_files import Subject
from conf.spec import Spec
from conf.stages.evaluate import EvaluateConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


def check(directory: Path, teacher: Path, data: Path, config: EvaluateConfig) -> None:
    """Refuse, before anything is loaded, models that cannot be compared or do not fit the tokens."""
    from jobs.huggingface import model as hf

    ours, theirs = hf.check(directory), hf.check(teacher)
    if ours["vocab_size"] != theirs["vocab_size"]:
        raise ValueError(
            f"{directory} has {ours['vocab_size']} vocabulary rows and the teacher {theirs['vocab_size']}; "
            "models can only be compared over the same vocabulary"
        )
    hf.check_tokens(directory, data)
    for settings in (ours, theirs):
        hf.check_length(settings, config.seq_length)
    if config.long_text:
        hf.check_length(ours, config.long_text.longest)
    longest = ours.get("max_position_embeddings")
    if config.new_tokens and longest is not None and config.prompt_tokens + config.new_tokens > longest:
        raise ValueError(
            f"evaluate.prompt_tokens {config.prompt_tokens} + new_tokens {config.new_tokens} is above the model's "
            f"max_position_embeddings {longest}; lower either"
        )


def questions(spec: Spec, config: EvaluateConfig, data: Path) -> list[Subject]:
    """The questions to ask, read first: a wrong subject must not cost loading a model."""
    if config.mmlu is None:
        return []
    from jobs.evaluation import mmlu

    if config.mmlu.path == "quiz":
        folder: Path | None = data / "quiz"
    elif config.mmlu.path:
        folder = Path(spec.inputs.get("mmlu", config.mmlu.path))
    else:
        folder = None
    return mmlu.read_subjects(folder, config.mmlu)


def sequences(config: EvaluateConfig, data: Path) -> NDArray[np.int64]:
    """The sequences to score [n, seq_length + 1]: the first ones of the split."""
    from jobs.tokens.windows import Windows

    windows = Windows(data / config.split, config.seq_length)
    return windows.tokens_at(range(min(config.sequences, len(windows))))


def long_sequences(config: EvaluateConfig, data: Path) -> NDArray[np.int64] | None:
    """The sequences to score by position [n, longest + 1]; None where none are asked for."""
    from jobs.tokens.windows import Windows

    if config.long_text is None:
        return None
    return Windows(data / config.split, config.long_text.longest).first(config.long_text.sequences)


def measure(
    directory: Path,
    teacher: Path,
    samples: NDArray[np.int64],
    subjects: list[Subject],
    config: EvaluateConfig,
    progress: Callable[[int], None] = lambda done: None,
    with_model: Callable[[PreTrainedModel], None] = lambda model: None,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, list[float]]]:
    """Everything for scores.json, items.jsonl and sequences.json; `with_model` is called with the model too."""
    from jobs.evaluation import scoring
    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    simulated = quantized.is_quantized(directory)
    model = _load(directory, config)
    scores: dict[str, Any] = {
        "num_params": hf.num_params(model),
        "bytes": hf.weight_bytes(directory),
        "simulated": simulated,
    }
    reference = None if teacher.resolve() == directory.resolve() else _load(teacher, config)
    values = scoring.score_sequences(model, reference, samples, config.batch, progress)
    scores |= scoring.summary(values, samples.shape[1] - 1)
    del reference
    with_model(model)
    items: list[dict[str, Any]] = []
    if config.mmlu is not None:
        from jobs.evaluation import mmlu

        mmlu_scores, items = mmlu.ask(
            model, hf.load_tokenizer(directory), subjects, config.mmlu, config.batch, progress
        )
        scores |= mmlu_scores
    if config.new_tokens and not simulated:
        prompt = samples.reshape(-1)[: config.prompt_tokens]
        scores |= scoring.time_generation(model, prompt, config.new_tokens)
    elif simulated:
        print(
            "tokens_per_second is not measured: quantization is simulated here, so the speed says nothing about an"
            " engine's"
        )
    return scores, items, dict(zip(scoring.COLUMNS, values.T.tolist(), strict=True))


def _load(directory: Path, config: EvaluateConfig) -> PreTrainedModel:
    import torch

    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    return quantized.load(directory, dtype) if quantized.is_quantized(directory) else hf.load_model(directory, dtype)
