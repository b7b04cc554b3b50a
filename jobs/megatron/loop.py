"""The steps of a training run: validations, checkpoints, metrics, and when it stops or goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.megatron.early_stopping import Watch
from jobs.megatron.spikes import Rewind
from jobs.runtime import heartbeat, interrupt
from jobs.runtime.checkpoint_folder import existing

if TYPE_CHECKING:
    from jobs.megatron.kept import Checkpoints
    from jobs.megatron.training import _Run


def steps(run: _Run, step: int, end: int, kept: Checkpoints) -> tuple[int, dict[str, float]]:
    """Train from `step` to `end`; returns the last step, and the losses of the last validation since `step`, if
    any."""
    metrics, watch = kept.metrics, kept.watch
    config, validation = run.config, dict[str, float]()
    if step == 0:
        validation = run.validate()
        scores = _check_watch(run, watch, 0, validation)
        if metrics:
            metrics.log(0, end, **validation, **scores)
        if run.may_go_back_to(0) and not existing(kept.folder):
            kept.save(0)
    finished = step == end or (watch is not None and watch.patience_exhausted)
    while not finished:
        try:
            values = run.step(step)
        except Rewind as spike:
            print(spike)
            step = kept.go_back()
            continue
        step += 1
        new_validation = run.validate() if step % config.validate_every == 0 or step == config.steps else {}
        validation = new_validation or validation
        values |= new_validation | _check_watch(run, watch, step, new_validation)
        values |= run.validate_average() if new_validation else {}
        if metrics:
            metrics.log(step, end, **values)
        finished = step == end or (watch is not None and watch.patience_exhausted)
        kept.saver.raise_errors()
        stop_reason = interrupt.stop_requested()
        if step % config.checkpoint_every == 0 or finished or stop_reason or run.may_go_back_to(step):
            kept.save(step)
        if stop_reason and not finished:
            kept.saver.wait()
            raise interrupt.Interrupted(stop_reason, f"after step {step} of {end}")
    return step, validation


def _check_watch(run: _Run, watch: Watch | None, step: int, validation: dict[str, float]) -> dict[str, float]:
    """The scores `watch` takes after `step`; their evaluation reports no progress."""
    if not watch:
        return {}
    if watch.due(step):
        run.gather()  # ranks may evaluate different parts
    with heartbeat.paused():
        return watch.check(step, validation)
