"""Checks that an inference engine computes from a model what was measured: the same held-out sequences, scored by vLLM
and here, compared in pairs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.spec import Spec
from conf.stages.verify import FEWEST, VerifyConfig
from jobs.runtime.entry import Metrics, main

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def run(spec: Spec) -> None:
    """Inputs: model and data. Writes verify.json, then raises ValueError if the two disagree.

    The engine comes first and has ended before the model is loaded here."""
    config, output = VerifyConfig.model_validate(spec.config), Path(spec.output)
    directory = Path(spec.inputs["model"]) / "model"
    samples = _samples(directory, Path(spec.inputs["data"]), config)
    metrics = Metrics(output)
    metrics.rewind(0)

    from jobs.evaluation import engine

    scored = engine.losses(directory, samples.tolist(), output)
    metrics.log(len(samples), 2 * len(samples))
    held = engine.contents(directory)
    simulated = _simulated(directory, samples, config, cache=not scored.on_cpu)
    metrics.log(2 * len(samples), 2 * len(samples))
    found = engine.difference(scored.losses, simulated)
    limit = config.max_difference or engine.bound(held)
    record = {
        "engine": config.engine,
        "version": scored.version,
        "on_cpu": scored.on_cpu,
        "kernels": scored.kernels,
        "algorithms": held.algorithms,
        "cache": scored.cache,
        "cache_verified": held.kv is None or not scored.on_cpu,
        "sequences": len(samples),
        "tokens": len(samples) * config.seq_length,
        "loss": statistics.fmean(scored.losses),
        "simulated_loss": statistics.fmean(simulated),
        "difference": found.mean,
        "difference_ci95": [found.mean - found.half, found.mean + found.half],
        "max_difference": limit,
    }
    (output / "verify.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    if not found.agrees(limit):
        raise ValueError(_sentence(directory, record))
    print(
        f"vLLM {scored.version}: {record['loss']:.4f} nats per token, here {record['simulated_loss']:.4f}; difference"
        f" {found.mean:+.4f} +- {found.half:.4f}"
    )


def _samples(directory: Path, data: Path, config: VerifyConfig) -> NDArray[np.int64]:
    """The first sequences of the test split [n, seq_length + 1]."""
    from jobs.huggingface import model as hf
    from jobs.tokens.windows import Windows

    hf.check_tokens(directory, data)
    hf.check_length(hf.check(directory), config.seq_length + 2)  # the last target is read, and a token generated
    windows = Windows(data / "test", config.seq_length)
    if len(windows) < FEWEST:
        raise ValueError(
            f"the test split has {len(windows)} sequences of {config.seq_length} tokens, too few for an interval; lower"
            " verify.seq_length"
        )
    return windows.tokens_at(range(min(config.sequences, len(windows))))


def _simulated(directory: Path, samples: NDArray[np.int64], config: VerifyConfig, *, cache: bool) -> list[float]:
    """Loss of each sequence here, with the types that the engine computes in; `cache`: with a rounded key-value
    cache."""
    import torch

    from jobs.evaluation import scoring
    from jobs.huggingface import model as hf
    from jobs.quantization import checkpoint as quantized

    if quantized.is_quantized(directory):
        model = quantized.load(directory, torch.bfloat16, cache=cache)
    else:
        model = hf.load_model(directory, torch.bfloat16)
    losses: list[float] = scoring.score_sequences(model, None, samples, config.batch)[:, 0].tolist()
    return losses


def _sentence(directory: Path, record: dict[str, Any]) -> str:
    low, high = record["difference_ci95"]
    return (
        f"vLLM {record['version']} computes {record['loss']:.4f} nats per token from {directory} and imbik's simulation"
        f" {record['simulated_loss']:.4f} on the same {record['sequences']} sequences: the difference"
        f" {record['difference']:+.4f} (95% interval {low:+.4f} to {high:+.4f}) is above {record['max_difference']:g};"
        " the model would not serve as it was measured; choose another format, or set verify to null"
    )


if __name__ == "__main__":
    main(run)
