"""The training loop of teacher and distillation: Megatron's schedules and DDP over windows of a tokenized corpus.

Owns steps, validation, checkpoints and metrics; the caller defines the loss with an `Objective`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.pipeline_parallel import get_forward_backward_func

from conf.stages.training import Training
from jobs.megatron import experts, replicas
from jobs.megatron import mtp as draft
from jobs.megatron.averages import WeightAverage
from jobs.megatron.batches import Batch, mean_over_ranks, micro_batches
from jobs.megatron.early_stopping import Watch
from jobs.megatron.fused_loss import Losses
from jobs.megatron.kept import Checkpoints
from jobs.megatron.loop import steps
from jobs.megatron.objective import Objective, language_model
from jobs.megatron.optimizer import bytes_held, optimizer_of
from jobs.megatron.parts import WHOLE, Part
from jobs.megatron.phases import Phases
from jobs.megatron.qk_clip import LogitBound
from jobs.megatron.recompute import recompute_layers
from jobs.megatron.restart import starting_over
from jobs.megatron.spikes import SpikeWatch
from jobs.runtime import heartbeat, interrupt
from jobs.runtime.entry import Metrics
from jobs.runtime.exit import Diverged
from jobs.tokens import documents
from jobs.tokens.windows import Samples, Split


@starting_over
def train(
    model: GPTModel,
    hf_config: dict[str, Any],
    config: Training,
    objective: Objective,
    *,
    splits: tuple[Split, Split],
    output: Path,
    watch: Watch | None = None,
    part: Part = WHOLE,
) -> dict[str, float]:
    """Train `model`, whose head is deferred, in place on the first of `splits`, validated on the second; returns the
    last validation losses, none of a part that others go on from, which writes its state instead. Resumes from the
    newest checkpoint under `output`. Raises ValueError when the loss is not finite, Diverged if it may start over with
    a smaller rate then, and Interrupted, after writing a checkpoint, when the job must stop before its last step."""
    experts.balance(model, hf_config, config)
    run = _Run(model, config, objective, *splits, hf_config=hf_config)
    metrics = Metrics(output) if torch.distributed.get_rank() == 0 else None
    kept = Checkpoints(run, hf_config, output, watch=watch, metrics=metrics, start=part.start)
    end = part.until or config.steps
    if run.spikes:
        run.spikes.begin(output)
    begun = kept.resume()
    print(f"the optimizer holds {bytes_held(run.optimizer, model):,} bytes on this rank")
    if metrics:
        part.begin(metrics, begun, end, own=kept.own)
    with interrupt.stoppable(), heartbeat.monitored(output), kept.saver:
        step, validation = steps(run, begun, end, kept)
        if part.until and step == begun and not kept.own:  # nothing was left to do
            kept.save(step)
        kept.saver.wait()
    if part.until:
        if metrics:
            part.end(kept.folder, step, output)
        torch.distributed.barrier()
        return {}
    validation, averaged = validation or run.validate(), run.validate_average()
    if watch:
        watch.finish(step, output)
    run.finish(step, averaged, output)
    return validation


class _Run:
    """One training run: the wrapped model, its optimizer and schedule, and its splits."""

    def __init__(
        self,
        model: GPTModel,
        config: Training,
        objective: Objective,
        train: Split,
        validation: Split,
        hf_config: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.objective, self.model, self.validation = config, objective, model, validation
        if config.parallel.recompute:
            recompute_layers(model)
        self.wrapped = replicas.wrapped(model, config)
        self.optimizer = optimizer_of(config, model, self.wrapped)
        self.phases = Phases(config, self.optimizer, model, train, {} if hf_config is None else hf_config)
        self.average = WeightAverage(model, config) if config.average else None
        self.spikes = SpikeWatch(config.spikes) if config.spikes else None
        self.bound = LogitBound(model, config.optimizer.qk_clip) if config.optimizer.qk_clip else None
        self._bounded = dict[str, float]()
        self._validated = 0, dict[str, float]()
        model.config.grad_scale_func = self.optimizer.scale_loss

    @property
    def scheduler(self) -> Any:
        """The learning rate of the phase that it is in."""
        return self.phases.scheduler

    def gather(self) -> None:
        """Have all weights on this rank, as stepped."""
        replicas.gather(self.wrapped)

    def finish(self, step: int, averaged: dict[str, float], output: Path) -> None:
        """Write what the average and the spikes came to after the last step."""
        if self.average:
            self.average.finish(output, averaged)
        if self.spikes:
            self.spikes.finish(step, output)

    def step(self, done: int) -> dict[str, float]:
        """One optimizer step after `done` steps; returns its losses, gradient norm and learning rate."""
        self.wrapped.train()
        self.wrapped.zero_grad_buffer()
        self.optimizer.zero_grad()
        self._bounded = {}
        if self.bound:
            self.bound.forget()
        samples = self.phases.samples(done, self.spikes.rewound if self.spikes else ())
        losses = self._pass(samples)
        self.scheduler.step(1)  # before the update, so that step 1 already learns and the last one uses min_lr
        norm, skipped = self._update(done + 1, losses[self.objective.total])
        if self.average:
            self.average.update(done + 1)
        values = {f"train_{name}": value for name, value in losses.items()} | {"grad_norm": norm}
        if skipped:  # a value that is no number has no place in a record
            values = {name: value for name, value in values.items() if math.isfinite(value)}
        elif not all(map(math.isfinite, values.values())):
            raise Diverged(
                f"step {done + 1} gave {self.objective.total} {losses[self.objective.total]} and gradient norm {norm}; "
                f"lower lr {self.config.lr:g} or raise warmup_steps (checkpoints hold only steps before it)"
            )
        counted = documents.told(samples) if getattr(self.config, "document_mask", False) else {}
        counted |= {"skipped_steps": float(len(self.spikes.skipped))} if self.spikes else {}
        if self.spikes and self.spikes.config.point_every:
            counted |= {"rewinds": float(len(self.spikes.rewound))}
        return values | counted | self._bounded | {"lr": self.optimizer.param_groups[0]["lr"]}

    def _update(self, step: int, loss: float) -> tuple[float, bool]:
        """Step the weights unless `step` is a spike; the gradient's norm before clipping, and whether it was one."""
        if self.spikes:
            self.optimizer.prepare_grads()
            norm = float(self.optimizer.get_grad_norm())
            if self.spikes.skips(step, loss, norm):
                return norm, True
        _, norm, _ = self.optimizer.step()
        self._bounded = self.bound.apply() if self.bound else {}
        return float(norm), False

    def may_go_back_to(self, step: int) -> bool:
        """Whether the run may go back to `step` from a spike after it."""
        return self.spikes is not None and self.spikes.point(step)

    def resume(self, step: int) -> None:
        """Continue after `step`, whose checkpoint was loaded."""
        self.phases.resume(step)
        if self.average:
            self.average.step = step

    def validate_average(self) -> dict[str, float]:
        """The losses of `validate` for the average of the weights, {"average_val_...": ...}; none before it begins."""
        if not (self.average and self.average.begun):
            return {}
        if self._validated[0] != self.average.step:
            with self.average.installed():
                losses = {f"average_{name}": value for name, value in self.validate().items()}
            self._validated = self.average.step, losses
        return self._validated[1]

    def validate(self) -> dict[str, float]:
        """Mean losses over the first sequences of the validation split."""
        return _validation_losses(self.wrapped, self.model, self.config, self.objective, self.validation)

    def _pass(self, samples: Samples) -> dict[str, float]:
        return _pass(self.wrapped, self.model, self.phases.config, self.objective, samples, forward_only=False)


def evaluate(model: GPTModel, config: Training, split: Split) -> dict[str, float]:
    """Cross-entropy of a bare model with a deferred head over the first validation sequences: {"val_loss": nats per
    token}."""
    return _validation_losses(model, model, config, language_model(), split)


def _validation_losses(
    wrapped: Any, model: GPTModel, config: Training, objective: Objective, split: Split
) -> dict[str, float]:
    wrapped.eval()
    per_pass = config.micro_batch * config.parallel.data
    usable = min(config.validation_batches * config.global_batch, len(split)) // per_pass * per_pass
    if usable == 0:
        raise ValueError(
            f"the validation split has {len(split)} sequences of {config.seq_length} tokens, fewer than micro_batch"
            f" {config.micro_batch} x data-parallel size {config.parallel.data}; raise data.validation_share or lower"
            " micro_batch"
        )
    samples = split.samples(range(usable))
    with torch.no_grad():
        losses = _pass(wrapped, model, config, objective, samples, forward_only=True)
    if "mtp_accepted" in losses:
        losses |= draft.counted(samples, config)
    return {f"val_{name}": value for name, value in losses.items()}


def _pass(
    wrapped: Any, model: GPTModel, config: Training, objective: Objective, samples: Samples, *, forward_only: bool
) -> dict[str, float]:
    """Forward (and backward) over `samples` in micro-batches; mean losses over all ranks."""

    def forward(batches: Iterator[Batch], wrapped: Any) -> tuple[torch.Tensor, Callable[..., Any]]:
        batch = next(batches)
        heartbeat.report_progress()

        def loss(hidden: torch.Tensor) -> tuple[torch.Tensor, Losses]:
            losses = objective.losses(model, hidden, batch)
            # Cloned: the schedule divides the loss it is given in place by the number of micro-batches.
            return losses[objective.total], {name: value.detach().clone() for name, value in losses.items()}

        if batch.packed is None:
            return wrapped(batch.tokens, batch.positions, None), loss
        return (
            wrapped(batch.tokens.view(1, -1), batch.positions.view(1, -1), None, packed_seq_params=batch.packed),
            loss,
        )

    batches = micro_batches(samples, config)
    micro_batch_losses = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=iter(batches),
        model=wrapped,
        num_microbatches=len(batches),
        seq_length=config.seq_length if samples.segments is None else config.seq_length * config.micro_batch,
        micro_batch_size=config.micro_batch if samples.segments is None else 1,
        forward_only=forward_only,
        **({"adjust_tensor_shapes_fn": objective.adjust_shapes} if objective.adjust_shapes else {}),
    )
    return mean_over_ranks(micro_batch_losses)
