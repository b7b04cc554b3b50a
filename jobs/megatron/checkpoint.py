"""Training checkpoints to resume from: fp32 master weights and the optimizer's moments in pieces, plus one JSON.

No pickles, and no layout that a reader would have to share: every rank writes what it alone holds, so that none ever
has more, and a run can resume under another layout, also with another number of data-parallel ranks. Threads write
during training from copies in main memory; a checkpoint gets its name once all ranks' files are on disk."""

from __future__ import annotations

import datetime
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer

from jobs.megatron import pieces
from jobs.megatron.early_stopping import Watch
from jobs.megatron.optimizer import MOMENTS, moment, states, stepped
from jobs.megatron.pieces import PieceOf, Pieces, Snapshot, whole
from jobs.megatron.spikes import SpikeWatch
from jobs.megatron.weights import TensorOf
from jobs.runtime import checkpoint_folder as checkpoints

AVERAGE = "average"

PATIENCE = datetime.timedelta(hours=12)
"""How long a rank's writer waits for the others'. One that is gone is noticed at once, one that hangs by the
heartbeat."""


class Saver:
    """Writes the checkpoints of one training run, one at a time; collective. Leaving it waits for the one in flight."""

    def __init__(self, folder: Path, keep: int, every: int | None = None) -> None:
        """Beside the newest `keep`, the newest of a step that `every` divides stays."""
        self.folder, self.keep, self.every = folder, keep, every
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        # Writers talk beside training, so they need a group of their own.
        self._group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE) if ranks > 1 else None

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
        """Copy this rank's part of the checkpoint of `step` with the states of `watch` and `spikes` and the average of
        the weights, and start to write it; collective. Waits for the previous one."""
        self._join()
        parts: dict[str, PieceOf] = {"master": stepped(optimizer)}
        parts |= {name: moment(optimizer, name) for name in MOMENTS}
        parts |= {AVERAGE: whole(average)} if average else {}
        watch_notes, best_tensors = watch.checkpoint_state(step) if watch else ({}, {})
        parts |= {name: whole(tensor_of) for name, tensor_of in best_tensors.items()}
        notes = {"watch": watch_notes} | ({"spikes": spikes.state()} if spikes else {})
        taken = pieces.snapshot(model, config, parts)
        self._thread = threading.Thread(target=self._write, args=(step, taken, notes), name="checkpoint")
        self._thread.start()

    def raise_errors(self) -> None:
        """Raise the error of a checkpoint that failed in the meantime, on whatever rank."""
        if self._thread and not self._thread.is_alive():
            self._join()

    def wait(self) -> None:
        """Wait until everything is on disk; collective, so that no rank ends the job before all have written."""
        self._join()
        torch.distributed.barrier()

    def _join(self) -> None:
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            raise self._error

    def _write(self, step: int, taken: Snapshot, notes: dict[str, Any]) -> None:
        partial, first = checkpoints.partial_of(self.folder, step), self._rank == 0

        def write() -> dict[str, str]:
            return checkpoints.digests(partial, pieces.write(partial, taken, self._rank, _tensor_place()))

        try:
            self._together(lambda: checkpoints.begin(self.folder, step) if first else None)
            written: dict[str, str] = {}
            for digests in self._together(write):
                written |= digests
            self._together(lambda: checkpoints.seal(partial, self.keep, notes, written, self.every) if first else None)
        except BaseException as error:  # noqa: BLE001 - raised again by the training thread
            if first:
                shutil.rmtree(partial, ignore_errors=True)
            self._error = error

    def _together(self, act: Callable[[], Any]) -> list[Any]:
        """What `act` returns on every rank, once all have done it. Raises what it raises, or OSError for another
        rank."""
        result: Any = None
        error: BaseException | None = None
        try:
            result = act()
        except BaseException as raised:  # noqa: BLE001 - the other ranks wait to hear of it
            error = raised
        own = (result, None if error is None else str(error))
        told: list[Any] = [own]
        if self._group is not None:
            told *= self._group.size()
            torch.distributed.all_gather_object(told, own, group=self._group)
        if error is not None:
            raise error
        for rank, (_, fault) in enumerate(told):
            if fault is not None:
                raise OSError(f"rank {rank} could not write its part of a checkpoint: {fault}")
        return [result for result, _ in told]


def _tensor_place() -> tuple[int, int]:
    """This rank among the tensor-parallel ones, and how many they are."""
    return (
        parallel_state.get_tensor_model_parallel_rank(),
        parallel_state.get_tensor_model_parallel_world_size(),
    )


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
    trained = whole(lambda parameter: parameter if parameter.requires_grad else None)
    _read(newest / "master", model, config, trained, stepped(optimizer))
    if spikes:
        spikes.resume(notes["spikes"])
    updates = step - (len(spikes.skipped) if spikes else 0)
    for state in states(optimizer).values():
        if "step" in state:
            state["step"] = torch.tensor(float(updates))
    for name in MOMENTS:
        _read(newest / name, model, config, moment(optimizer, name))
    if average:
        _read(newest / AVERAGE, model, config, whole(average))
    if watch:
        watch.resume(
            step, notes["watch"], lambda name, tensor_of: _read(newest / name, model, config, whole(tensor_of))
        )
    return step


def _read(folder: Path, model: GPTModel, config: dict[str, Any], *targets: PieceOf) -> None:
    Pieces(folder).read(model, config, *targets)


def _newest(folder: Path, start: Path | None) -> tuple[Path, dict[str, Any]] | None:
    return checkpoints.newest_sound(folder) or (checkpoints.newest_sound(start) if start else None)
