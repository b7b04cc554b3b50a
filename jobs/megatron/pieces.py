"""Tensors of a checkpoint in pieces: every rank writes what it alone holds, and any layout puts them together again.

A rank's part of a Megatron parameter, flattened, is a row of numbers; a piece is a stretch of that row. Data-parallel
ranks that hold the same row write a share each; those of a distributed optimizer, what they own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from safetensors import safe_open
from safetensors.torch import save_file

from jobs.megatron import experts
from jobs.megatron.weights import TensorOf, joined, own_part, parameters_of


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a parameter's row from `start`, in any shape; `owned`: by this rank alone of its data-parallel
    ones."""

    values: torch.Tensor
    start: int = 0
    owned: bool = False

    @property
    def row(self) -> torch.Tensor:
        """Its numbers [count], in the same memory."""
        return self.values.detach().view(-1)


PieceOf = Callable[[torch.nn.Parameter], Piece | None]
"""What this rank holds for a parameter; None: nothing."""

Snapshot = dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]
"""Part of a checkpoint -> copies in main memory by name, and what a reader must know of each."""


def whole(tensor_of: TensorOf) -> PieceOf:
    """The tensors that all data-parallel ranks hold whole."""

    def piece_of(parameter: torch.nn.Parameter) -> Piece | None:
        tensor = tensor_of(parameter)
        return None if tensor is None else Piece(values=tensor)

    return piece_of


def snapshot(model: GPTModel, config: dict[str, Any], parts: dict[str, PieceOf]) -> Snapshot:
    """Copies in fp32, which the next step does not change, of what this rank must write of each part."""
    taken: Snapshot = {}
    tied = bool(config.get("tie_word_embeddings")) and parallel_state.get_pipeline_model_parallel_rank() > 0
    for part, piece_of in parts.items():
        tensors: dict[str, torch.Tensor] = {}
        notes: dict[str, Any] = {}
        taken[part] = tensors, notes
        for parameter, names, split in parameters_of(model, config):
            if split == "whole" and parallel_state.get_tensor_model_parallel_rank() > 0:
                continue  # tensor-parallel ranks hold the same
            if tied and names[0] == "model.embed_tokens.weight":
                continue  # the first pipeline stage writes it
            piece = _own(piece_of(parameter), divided=experts.divided(parameter))
            if piece is None or not piece.row.numel():
                continue
            tensors[names[0]] = piece.row.to(device="cpu", dtype=torch.float32, copy=True)
            notes[names[0]] = {"start": piece.start, "shape": list(parameter.shape), "split": split, "names": names}
    return taken


def _own(piece: Piece | None, *, divided: bool) -> Piece | None:
    """This rank's share of a piece that its data-parallel ranks hold too; if it is `divided`, those with the same
    experts."""
    if piece is None or piece.owned:
        return piece
    if divided:
        group = parallel_state.get_expert_data_parallel_group()
    else:
        group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    count, rank, size = piece.row.numel(), group.rank(), group.size()
    start, end = count * rank // size, count * (rank + 1) // size
    return Piece(values=piece.row[start:end], start=piece.start + start)


def write(folder: Path, taken: Snapshot, rank: int, tensor: tuple[int, int]) -> list[Path]:
    """Write this rank's files, each freed once it is on the disk; `tensor`: its tensor-parallel rank, and their
    number."""
    files = []
    for part in list(taken):
        tensors, notes = taken.pop(part)
        if not tensors:
            continue
        (folder / part).mkdir(exist_ok=True)
        files.append(folder / part / f"rank-{rank:05d}.safetensors")
        save_file(tensors, files[-1], metadata={"pieces": json.dumps({"tensor": tensor, "of": notes})})
    return files


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """One piece in a file."""

    path: Path
    start: int
    shape: tuple[int, ...]
    split: str
    names: tuple[str, ...]


class Pieces:
    """The pieces of one part of a checkpoint, read by name. Raises ValueError where it has none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.size = 1
        self._stored: dict[str, dict[int, list[_Stored]]] = {}
        self._files: dict[Path, Any] = {}
        for path in sorted(folder.glob("rank-*.safetensors")):
            self._files[path] = safe_open(path, framework="pt")
            told = json.loads(self._files[path].metadata()["pieces"])
            rank, self.size = told["tensor"]
            for name, note in told["of"].items():
                sizes = {"shape": tuple(note["shape"]), "names": tuple(note["names"])}
                stored = _Stored(path=path, start=note["start"], split=note["split"], **sizes)
                self._stored.setdefault(name, {}).setdefault(rank, []).append(stored)
        if not self._stored:
            raise ValueError(
                f"{folder} holds no rank's weights: another version of imbik wrote this checkpoint; remove"
                f" {folder.parents[1]} to restart this stage from step 0"
            )

    def names(self) -> dict[str, tuple[tuple[str, ...], str]]:
        """The stored tensors: their names in Hugging Face's files, and kind of split."""
        return {name: (ranks[0][0].names, ranks[0][0].split) for name, ranks in self._stored.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """A whole Megatron tensor of which tensor-parallel ranks had slices, in fp32."""
        if name not in self._stored:
            raise ValueError(f"{self.folder} lacks {name}; remove {self.folder.parents[1]} to restart this stage")
        split = self._stored[name][0][0].split if 0 in self._stored[name] else "whole"
        return joined([self._slice(name, rank) for rank in range(1 if split == "whole" else self.size)], split)

    def _slice(self, name: str, rank: int) -> torch.Tensor:
        """What one tensor-parallel rank had, from the pieces of its data-parallel ranks."""
        pieces = sorted(self._stored[name].get(rank, []), key=lambda piece: piece.start)
        rows, reached = [self._files[piece.path].get_tensor(name) for piece in pieces], 0
        for piece, row in zip(pieces, rows, strict=True):
            if piece.start != reached:
                break
            reached += row.numel()
        shape = torch.Size(pieces[0].shape if pieces else ())
        if not pieces or reached != shape.numel():
            raise ValueError(
                f"{self.folder} holds {reached} of the numbers of {name} in sequence, of {shape.numel()}; remove"
                f" {self.folder.parents[1]} to restart this stage"
            )
        return torch.cat(rows).view(shape)

    @torch.no_grad()
    def read(self, model: GPTModel, config: dict[str, Any], *targets: PieceOf) -> None:
        """Copy what this rank holds of each tensor into every one of `targets`."""
        for parameter, names, split in parameters_of(model, config):
            into = [piece for piece_of in targets if (piece := piece_of(parameter)) is not None]
            if not into:
                continue
            own = own_part(self.tensor(names[0]), split)
            if own.shape != parameter.shape:
                raise ValueError(
                    f"{self.folder}: {names[0]} gives {tuple(own.shape)} where the model needs {tuple(parameter.shape)}"
                )
            for piece in into:
                piece.row.copy_(own.reshape(-1)[piece.start : piece.start + piece.row.numel()])
