"""Quantization-aware distillation: the unquantized model teaches the quantized one through ModelOpt's quantizers
(straight-through).

Trains the very model that is exported and verified afterwards, transformers' own, in one process with fp32 weights.
Quantizing Megatron's layers instead, to train over many processes, has not been tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from conf.stages.qad import QADConfig
from jobs.quantization.optimizers import optimizers_of
from jobs.runtime import checkpoint_folder as checkpoints
from jobs.runtime import heartbeat, interrupt
from jobs.runtime.entry import Metrics
from jobs.runtime.muon import LR_SCALE
from jobs.tokens.blend_reader import training_split
from jobs.tokens.windows import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Log = Callable[..., None]
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}
"""Name in a checkpoint -> in an optimizer's state; Muon has the first alone."""


def train(
    model: PreTrainedModel, teacher: PreTrainedModel, config: QADConfig, data: Path, output: Path, log: Log
) -> dict[str, Any]:
    """Train `model`, whose quantizers are calibrated, in place; returns the entry of quantize.json. `log(step,
    **values)` reports progress.

    Weights are fp32 during training and bf16 before and after. Raises ValueError when the gradient is not finite."""
    train_windows = training_split(data, config.seq_length, config.sequences)
    validation = Windows(data / "validation", config.seq_length)
    _cast(model, torch.float32)
    model.requires_grad_(True)
    run = _Run(model, teacher, config)
    step, history = run.resume(output / "checkpoints")
    if not history:
        history.append({"step": 0, **run.validate(validation)})
    with interrupt.stoppable(), heartbeat.monitored(output):
        while step < config.steps:
            indices = train_windows.shuffled(step * config.global_batch, config.global_batch, config.seed)
            values = run.step(train_windows.tokens_at(indices), step)
            step += 1
            if step % config.validate_every == 0 or step == config.steps:
                values |= run.validate(validation)
                history.append({"step": step, **{name: values[name] for name in ("val_loss", "val_kl")}})
            stop_reason = interrupt.stop_requested() if step < config.steps else None
            if stop_reason or (step % config.checkpoint_every == 0 and step < config.steps):
                run.save(output / "checkpoints", step, history)
            log(step, **values)
            if stop_reason:
                raise interrupt.Interrupted(stop_reason, f"after step {step} of {config.steps} of quantize.qad")
    model.requires_grad_(False)
    _cast(model, torch.bfloat16)
    return {"steps": config.steps, "tokens": config.tokens, "history": history}


def _cast(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast parameters only: rotary frequencies and the quantizers' scales stay in fp32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


class _Run:
    """A student, its teacher and the student's optimizers."""

    def __init__(self, model: PreTrainedModel, teacher: PreTrainedModel, config: QADConfig) -> None:
        from modelopt.torch.distill.losses import LogitsDistillationLoss

        self.model, self.teacher, self.config = model, teacher, config
        self.divergence = LogitsDistillationLoss(
            temperature=config.temperature, reduction="batchmean"
        )  # it multiplies by T^2
        self.scale = 1.0 if config.scale_by_t2 else config.temperature**-2
        self.plain_divergence = LogitsDistillationLoss(temperature=1.0, reduction="batchmean")
        self.optimizers = optimizers_of(model, config)

    def step(self, samples: Any, step: int) -> dict[str, float]:
        """One optimizer step on `samples` [global_batch, seq_length + 1]; mean losses in nats per token."""
        config, sums = self.config, {"divergence": 0.0, "loss": 0.0}
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = group.get(LR_SCALE, 1.0) * learning_rate(config, step)
        micro_batches = torch.from_numpy(samples).split(config.micro_batch)
        for micro_batch in micro_batches:
            heartbeat.report_progress()
            losses = self._losses(micro_batch, self.divergence, self.scale)
            share = len(micro_batch) / len(samples)
            total = (1 - config.ce_share) * losses["divergence"] + config.ce_share * losses["loss"]
            (total * share).backward()
            sums = {name: value + share * float(losses[name].detach()) for name, value in sums.items()}
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_grad))
        if not math.isfinite(norm):
            raise ValueError(
                f"the gradient is {norm} at step {step + 1} of quantize.qad; choose a smaller lr than {config.lr:g}"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sums | {"lr": learning_rate(config, step), "grad_norm": norm}

    def _losses(self, samples: torch.Tensor, divergence: Any, scale: float) -> dict[str, torch.Tensor]:
        tokens = samples.to(self.model.device)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()
        with torch.no_grad():
            theirs = self.teacher(inputs, use_cache=False).logits.flatten(0, 1).float()
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            ours = self.model(inputs, use_cache=False).logits.flatten(0, 1)
        ours = ours.float()
        cross_entropy = torch.nn.functional.cross_entropy(ours, targets)
        return {"divergence": divergence(ours, theirs) * scale, "loss": cross_entropy}

    def validate(self, windows: Windows) -> dict[str, float]:
        """Cross-entropy and forward KL from the teacher on the first sequences of the validation split, nats per
        token."""
        count = min(len(windows), self.config.validation_batches * self.config.global_batch)
        sums = {"divergence": 0.0, "loss": 0.0}
        with torch.no_grad():
            for micro_batch in torch.from_numpy(windows.tokens_at(range(count))).split(self.config.micro_batch):
                losses = self._losses(micro_batch, self.plain_divergence, 1.0)
                sums = {name: value + float(losses[name]) * len(micro_batch) / count for name, value in sums.items()}
        return {"val_loss": sums["loss"], "val_kl": sums["divergence"]}

    def save(self, folder: Path, step: int, history: list[dict[str, float]]) -> None:
        """Save weights, the optimizers' moments and the validations so far."""
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter, optimizer in self._named_parameters():
            state = optimizer.state[parameter]
            tensors[f"weight.{name}"] = parameter.data
            tensors |= {f"{part}.{name}": state[moment] for part, moment in MOMENTS.items() if moment in state}

        def write(partial: Path) -> dict[str, Any]:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / "state.safetensors")
            return {"history": history}

        checkpoints.publish(folder, step, self.config.checkpoints_kept, write)

    def resume(self, folder: Path) -> tuple[int, list[dict[str, float]]]:
        """Continue from the newest undamaged checkpoint: its step and validations; (0, []) where there is none."""
        newest = checkpoints.newest_sound(folder)
        if not newest:
            return 0, []
        checkpoint, notes = newest
        tensors = load_file(checkpoint / "state.safetensors", device=str(self.model.device))
        for name, parameter, optimizer in self._named_parameters():
            parameter.data.copy_(tensors[f"weight.{name}"])
            state: dict[str, torch.Tensor] = {
                moment: tensors[f"{part}.{name}"] for part, moment in MOMENTS.items() if f"{part}.{name}" in tensors
            }
            optimizer.state[parameter] = {"step": torch.tensor(float(notes["step"]))} | state
        print(f"resuming quantization-aware distillation at step {notes['step']}")
        return int(notes["step"]), list(notes["history"])

    def _named_parameters(self) -> list[tuple[str, torch.nn.Parameter, torch.optim.Optimizer]]:
        """Name, parameter and its optimizer."""
        owner = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        return [(name, parameter, owner[parameter]) for name, parameter in self.model.named_parameters()]


def learning_rate(config: QADConfig, step: int) -> float:
    """Linear warm-up, then the schedule from lr to min_lr after the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    height = config.schedule.height(step, config.steps, config.warmup_steps)
    return config.min_lr + (config.lr - config.min_lr) * height


def progress_log(metrics: Metrics, before: int, config: QADConfig) -> Log:
    """Logs steps of training as those after `before` steps of calibration."""

    def log(step: int, **values: float) -> None:
        metrics.log(before + step, before + config.steps, **values)

    return log
