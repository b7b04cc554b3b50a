"""Training checkpoints to resume from: fp32 master weights and Adam moments under Hugging Face tensor names, plus one JSON.

No pickles, no layout: the files are gathered as a model is, so a run resumes under another tensor- or pipeline-parallel size.
A checkpoint exists once its folder has its final name; the newest whose digests hold is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import ChainedOptimizer, MegatronOptimizer

from jobs.megatron.watch import Watch
from jobs.megatron.weights import read_into, write_tensors

KEEP = 2
"""Checkpoints kept: the newest, and one more in case the newest is damaged."""

MOMENTS = ("exp_avg", "exp_avg_sq")


def save(
    folder: Path, step: int, model: GPTModel, optimizer: MegatronOptimizer, config: dict[str, Any], watch: Watch | None = None
) -> None:
    """Write the checkpoint of `step` with what `watch` knows; collective. Older ones beyond `KEEP` are removed only after it is
    complete."""
    writer = torch.distributed.get_rank() == 0
    partial, final = folder / f".partial-{step}", folder / f"step-{step:08d}"
    if writer:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    state = _adam_state(optimizer)
    parts: dict[str, Callable[[torch.nn.Parameter], torch.Tensor]] = {"master": _master}
    parts |= {name: lambda parameter, name=name: state[_master(parameter)][name] for name in MOMENTS}  # type: ignore[misc]
    watched, more = watch.saved(step) if watch else ({}, {})
    for name, tensor_of in (parts | more).items():
        write_tensors(model, partial / name, config, torch.float32, tensor_of)
    if writer:
        digests = {str(path.relative_to(partial)): _digest(path) for path in sorted(partial.rglob("*")) if path.is_file()}
        (partial / "state.json").write_text(json.dumps({"step": step, "watch": watched, "digests": digests}))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in _existing(folder)[:-KEEP]:
            shutil.rmtree(old)
    torch.distributed.barrier()


def resume(folder: Path, model: GPTModel, optimizer: MegatronOptimizer, config: dict[str, Any], watch: Watch | None = None) -> int:
    """Load the newest sound checkpoint into `model`, `optimizer` and `watch`; returns its step, 0 where there is none."""
    box = [_newest_sound(folder) if torch.distributed.get_rank() == 0 else None]
    torch.distributed.broadcast_object_list(box, src=0)
    found = box[0]
    if found is None:
        return 0
    step = int(found.name.removeprefix("step-"))
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
        watched = json.loads((found / "state.json").read_text())["watch"]
        watch.resume(step, watched, lambda name, tensor_of: read_into(model, found / name, config, tensor_of))
    return step


def _newest_sound(folder: Path) -> Path | None:
    for candidate in reversed(_existing(folder)):
        try:
            digests = json.loads((candidate / "state.json").read_text())["digests"]
            if all(_digest(candidate / name) == digest for name, digest in digests.items()):
                return candidate
        except (OSError, ValueError, KeyError) as error:
            print(f"checkpoint {candidate.name} cannot be read ({error})")
        print(f"checkpoint {candidate.name} is damaged; trying the one before it")
    return None


def _existing(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _master(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The fp32 weight the optimizer steps: Megatron hangs it on a bf16 parameter; an fp32 parameter is its own."""
    return getattr(parameter, "main_param", parameter)


def _adam_state(optimizer: MegatronOptimizer) -> dict[torch.Tensor, dict[str, torch.Tensor]]:
    while isinstance(optimizer, ChainedOptimizer):
        assert len(optimizer.chained_optimizers) == 1, "one optimizer: there are no expert parameters"
        optimizer = optimizer.chained_optimizers[0]
    return optimizer.optimizer.state  # type: ignore[no-any-return]
