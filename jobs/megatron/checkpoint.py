"""Training checkpoints to resume from: fp32 master weights and Adam moments under Hugging Face tensor names, plus one
JSON.

No pickles, no layout: the files are gathered as a model is, so a run resumes under another tensor- or pipeline-parallel
size. They are written beside the training, by a thread of rank 0 from a copy in main memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import ChainedOptimizer, MegatronOptimizer

from jobs.megatron.early_stopping import Watch
from jobs.megatron.weights import gathered, read_into, write_shards
from jobs.runtime import checkpoint_folder as checkpoints

MOMENTS = ("exp_avg", "exp_avg_sq")

Parts = dict[str, list[tuple[str, torch.Tensor]]]
"""Folder of a checkpoint -> its tensors by name, on rank 0 in main memory; elsewhere placeholders."""


class Saver:
    """Writes the checkpoints of one training run, one at a time. Leaving it waits for the one in flight."""

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder, self.kept = folder, kept
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
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
    ) -> None:
        """Take the checkpoint of `step` with what `watch` knows, and begin to write it; collective. Waits for the one
        before it."""
        self._join()
        state = _adam_state(optimizer)
        tensors_of: dict[str, Callable[[torch.nn.Parameter], torch.Tensor]] = {"master": _master}
        tensors_of |= {name: lambda parameter, name=name: state[_master(parameter)][name] for name in MOMENTS}  # type: ignore[misc]
        watched, more = watch.saved(step) if watch else ({}, {})
        writer = torch.distributed.get_rank() == 0
        parts = {
            name: list(_copied(gathered(model, config, tensor_of), writer))
            for name, tensor_of in (tensors_of | more).items()
        }
        if writer:
            self._thread = threading.Thread(target=self._write, args=(step, parts, watched), name="checkpoint")
            self._thread.start()

    def look(self) -> None:
        """Raise what went wrong with a checkpoint in the meantime, on rank 0."""
        if self._thread and not self._thread.is_alive():
            self._join()

    def settle(self) -> None:
        """Wait until everything is on the disk; collective, so that no rank ends the job before rank 0 has written."""
        self._join()
        torch.distributed.barrier()

    def _join(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            raise self._error

    def _write(self, step: int, parts: Parts, watched: dict[str, Any]) -> None:
        def write(folder: Path) -> dict[str, Any]:
            for name in list(parts):
                write_shards(folder / name, parts.pop(name))
            return {"watch": watched}

        try:
            checkpoints.publish(self.folder, step, self.kept, write)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that trains
            self._error = error


def _copied(tensors: Iterator[tuple[str, torch.Tensor]], writer: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """Copies that the next step does not change; only the writer's are kept."""
    for name, tensor in tensors:
        if writer:
            where = {"device": "cpu", "dtype": torch.float32, "memory_format": torch.contiguous_format}
            yield name, tensor.to(**where, copy=True)


def resume(
    folder: Path, model: GPTModel, optimizer: MegatronOptimizer, config: dict[str, Any], watch: Watch | None = None
) -> int:
    """Load the newest sound checkpoint into `model`, `optimizer` and `watch`; returns its step, 0 where there is none
    at all.

    Raises ValueError on rank 0 where there are checkpoints but none is sound.
    """
    box = [checkpoints.newest_sound(folder) if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(box, src=0)
    if box[0] is None:
        return 0
    found, notes = box[0]
    step = int(notes["step"])
    read_into(model, found / "master", config, _master)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(_master(parameter))
    state = _adam_state(optimizer)
    for parameter in model.parameters():
        if parameter.requires_grad:
            empty = {name: torch.zeros_like(_master(parameter)) for name in MOMENTS}
            state[_master(parameter)] = {"step": torch.tensor(float(step))} | empty
    for name in MOMENTS:
        read_into(model, found / name, config, lambda parameter, name=name: state[_master(parameter)][name])  # type: ignore[misc]
    if watch:
        watch.resume(step, notes["watch"], lambda name, tensor_of: read_into(model, found / name, config, tensor_of))
    return step


def _master(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The fp32 weight the optimizer steps: Megatron hangs it on a bf16 parameter; an fp32 parameter is its own."""
    return getattr(parameter, "main_param", parameter)


def _adam_state(optimizer: MegatronOptimizer) -> dict[torch.Tensor, dict[str, torch.Tensor]]:
    while isinstance(optimizer, ChainedOptimizer):
        assert len(optimizer.chained_optimizers) == 1, "one optimizer: there are no expert parameters"
        optimizer = optimizer.chained_optimizers[0]
    return optimizer.optimizer.state  # type: ignore[no-any-return]
