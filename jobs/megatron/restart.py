"""Training that diverged and starts over with a smaller learning rate: how often it did, and with what rate.

The job ends with reason `diverged` and is submitted again; what it has tried is a file of its output, so that a job
that is killed in between goes on with the same rate."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from conf.files import write_whole
from conf.stages.training import Training
from jobs.megatron.spikes import REWINDS
from jobs.runtime.entry import Metrics
from jobs.runtime.exit import Diverged

DIVERGED = "diverged.json"
"""In the job's output: each training that diverged, with its learning rate and why it ended."""

Kind = TypeVar("Kind", bound=Training)


def starting_over(train: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
    """`train(model, hf_config, config, objective, output=...)` with the learning rate of this attempt; if it diverges,
    the job may start over."""

    @functools.wraps(train)
    def attempt(model: Any, hf_config: dict[str, Any], config: Training, *rest: Any, **more: Any) -> dict[str, float]:
        config = lowered(config, more["output"])
        try:
            return train(model, hf_config, config, *rest, **more)
        except Diverged as error:
            start_over(error, config, more["output"])

    return attempt


def lowered(config: Kind, output: Path) -> Kind:
    """The config with the learning rates of this attempt."""
    factor = config.retry.lr_factor ** len(_tried(output)) if config.retry else 1.0
    rates = {"lr": config.lr * factor, "min_lr": config.min_lr * factor}
    return config.model_copy(update=rates | {"phases": tuple(phase.slower(factor) for phase in config.phases)})


def start_over(error: Diverged, config: Training, output: Path) -> NoReturn:
    """Raise what ends the job after `error`, which every rank found, with the config that `lowered` gave: Diverged if
    it may start over, after its checkpoints are removed, else ValueError with all that was tried."""
    tried = [*_tried(output), {"lr": config.lr, "why": str(error)}]
    torch.distributed.barrier()  # all have read
    if config.retry is None or len(tried) > config.retry.times:
        raise ValueError(_given_up(error, tried)) from error
    if torch.distributed.get_rank() == 0:
        # In this order: a job killed in between diverges once more rather than go on from weights of the larger rate.
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
        (output / REWINDS).unlink(missing_ok=True)
        Metrics(output).rewind(-1)
        write_whole(output / DIVERGED, json.dumps(tried, indent=2) + "\n")
    torch.distributed.barrier()
    raise Diverged(f"{error}; training starts over with lr {config.lr * config.retry.lr_factor:g}") from error


def _tried(output: Path) -> list[dict[str, Any]]:
    path = output / DIVERGED
    return json.loads(path.read_text()) if path.is_file() else []


def _given_up(error: Diverged, tried: list[dict[str, Any]]) -> str:
    if len(tried) == 1:
        return str(error)
    rates = ", ".join(f"{each['lr']:g}" for each in tried)
    return f"training diverged with each learning rate that retry allows ({rates}); the last time, {error}"
