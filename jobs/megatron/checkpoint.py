"""Training checkpoints to resume from: fp32 master weights and the optimizer's moments under Hugging Face tensor names,
plus one JSON.

No pickles, no layout: the files are gathered like a model, so a run can resume under another tensor- or
pipeline-parallel size. A thread of rank 0 writes them during training from a copy in main memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer

from jobs.megatron.early_stopping import Watch
from jobs.megatron.optimizer import MOMENTS, states
from jobs.megatron.shards import write_shards
from jobs.megatron.spikes import SpikeWatch
from jobs.megatron.weights import TensorOf, gather_tensors, read_into
from jobs.runtime import checkpoint_folder as checkpoints

AVERAGE = "average"

Parts = dict[str, list[tuple[str, torch.Tensor]]]
"""Folder of a checkpoint -> its tensors by name, on rank 0 in main memory; placeholders elsewhere."""


class Saver:
    """Writes the checkpoints of one training run, one at a time. Leaving it waits for the one in flight."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread:
            self._thread.join()

    def save(
        self,
        step: int,
        model: GPTModel,
        optimizer: MegatronOptimizer,
        config: dict[str, Any],
        watch: Watch | None = None,
        average: TensorOf | None = None,
        spikes: SpikeWatch | None = None,
    ) -> None:
        """Copy the checkpoint of `step` with the states of `watch` and `spikes` and the average of the weights, and
        start to write it; collective. Waits for the previous one."""
        self._join()
        tensors_of: dict[str, TensorOf] = {"master": master} | _moments(optimizer)
        tensors_of |= {AVERAGE: average} if average else {}
        watch_notes, best_tensors = watch.checkpoint_state(step) if watch else ({}, {})
        notes = {"watch": watch_notes} | ({"spikes": spikes.state()} if spikes else {})
        writer = torch.distributed.get_rank() == 0
        parts = {
            name: list(_copied(gather_tensors(model, config, tensor_of), writer))
            for name, tensor_of in (tensors_of | best_tensors).items()
        }
        if writer:
            self._thread = threading.Thread(target=self._write, args=(step, parts, notes), name="checkpoint")
            self._thread.start()

    def raise_errors(self) -> None:
        """Raise the error of a checkpoint that failed in the meantime, on rank 0."""
        if self._thread and not self._thread.is_alive():
            self._join()

    def wait(self) -> None:
        """Wait until everything is on disk; collective, so that no rank ends the job before rank 0 has written."""
        self._join()
        torch.distributed.barrier()

    def _join(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            raise self._error

    def _write(self, step: int, parts: Parts, notes: dict[str, Any]) -> None:
        def write(folder: Path) -> dict[str, Any]:
            for name in list(parts):
                write_shards(folder / name, parts.pop(name))
            return notes

        try:
            checkpoints.publish(self.folder, step, self.keep, write)
        except BaseException as error:  # noqa: BLE001 - raised again by the training thread
            self._error = error


def _copied(tensors: Iterator[tuple[str, torch.Tensor]], writer: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Copies that the next step does not change; only the writer keeps any."""
    for name, tensor in tensors:
        if writer:
            options = {"device": "cpu", "dtype": torch.float32, "memory_format": torch.contiguous_format}
            yield name, tensor.to(**options, copy=True)


def resume(
    folder: Path,
    model: GPTModel,
    optimizer: MegatronOptimizer,
    config: dict[str, Any],
    watch: Watch | None = None,
    average: TensorOf | None = None,
    spikes: SpikeWatch | None = None,
    start: Path | None = None,
) -> int:
    """Load the newest undamaged checkpoint of `folder`, else of `start`, into `model`, `optimizer`, `watch`, `average`
    and `spikes`; returns its step, 0 where there are none.

    Raises ValueError on rank 0 where every checkpoint is damaged."""
    box = [_newest(folder, start) if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(box, src=0)
    if box[0] is None:
        return 0
    newest, notes = box[0]
    step = int(notes["step"])
    read_into(model, newest / "master", config, master)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(master(parameter))
    if spikes:
        spikes.resume(notes["spikes"])
    updates = step - (len(spikes.skipped) if spikes else 0)
    for state in states(optimizer).values():
        if "step" in state:
            state["step"] = torch.tensor(float(updates))
    for name, tensor_of in _moments(optimizer).items():
        read_into(model, newest / name, config, tensor_of)
    if average:
        read_into(model, newest / AVERAGE, config, average)
    if watch:
        watch.resume(step, notes["watch"], lambda name, tensor_of: read_into(model, newest / name, config, tensor_of))
    return step


def _newest(folder: Path, start: Path | None) -> tuple[Path, dict[str, Any]] | None:
    return checkpoints.newest_sound(folder) or (checkpoints.newest_sound(start) if start else None)


def master(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The fp32 weight that the optimizer steps: Megatron attaches it to a bf16 parameter; an fp32 parameter is its
    own."""
    return getattr(parameter, "main_param", parameter)


def _moments(optimizer: MegatronOptimizer) -> dict[str, TensorOf]:
    """Each moment of the weights that have it."""
    state = states(optimizer)
    return {name: lambda parameter, name=name: state[master(parameter)].get(name) for name in MOMENTS}  # type: ignore[misc]
