"""Measures how much each layer and channel of the teacher matters, once for all students cut from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conf.spec import Spec
from conf.stages.importance import ImportanceConfig
from jobs.runtime.entry import Metrics, main


def run(spec: Spec) -> None:
    """Inputs: teacher, data. Writes importance.json and importance.safetensors."""
    from jobs.megatron.device import machine

    config = ImportanceConfig.model_validate(spec.config)
    with machine(config.parallel, seed=0) as device:
        _measure(spec, config, device)


def _measure(spec: Spec, config: ImportanceConfig, device: Any) -> None:
    import torch

    from jobs.megatron import fused_loss as head
    from jobs.megatron import inputs, minitron, weights
    from jobs.megatron.forward import forward
    from jobs.megatron.model import build
    from jobs.tokens.blend_reader import sample_split

    data, teacher, output = Path(spec.inputs["data"]), Path(spec.inputs["teacher"]) / "model", Path(spec.output)
    hf_config = inputs.checked_model(teacher, data, config.parallel, config.seq_length)
    windows = sample_split(data, config.seq_length, config.calibration_samples)
    if len(windows) < config.calibration_samples:
        raise ValueError(
            f"importance.calibration_samples is {config.calibration_samples} but the train split has only"
            f" {len(windows)} sequences of {config.seq_length} tokens; choose fewer samples or a shorter seq_length"
        )
    model = build(hf_config, config.parallel, config.precision, device, for_pruning=True)
    weights.load(model, teacher, hf_config)
    head.defer(model)  # no logits are needed
    metrics = Metrics(output) if torch.distributed.get_rank() == 0 else None
    passes = -(-config.calibration_samples // config.micro_batch)

    def loop(model: Any) -> None:
        for step in range(passes):
            chosen = range(step * config.micro_batch, min((step + 1) * config.micro_batch, config.calibration_samples))
            batch = windows.tokens_at(windows.shuffled(chosen.start, len(chosen), seed=0))
            forward(model, torch.from_numpy(batch[:, :-1]))
            if metrics:
                metrics.log(step + 1, passes)

    minitron.measure(model, loop, output)


if __name__ == "__main__":
    main(run)
