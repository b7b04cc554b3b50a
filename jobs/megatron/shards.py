"""Writes tensors as safetensors files of bounded size, named and indexed as transformers does."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from conf import hf_model

SHARD_BYTES = 5_000_000_000
"""Largest size of a written shard, the usual bound; rank 0 holds no more gathered tensors than that."""


class ShardWriter:
    """Collects tensors into safetensors files of bounded size, with transformers' file names."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.pending: dict[str, torch.Tensor] = {}
        self.files: list[list[str]] = []
        self.bytes = self.total = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self.pending and self.bytes + size > SHARD_BYTES:
            self._flush()
        self.pending[name] = tensor
        self.bytes += size
        self.total += size

    def _flush(self) -> None:
        save_file(self.pending, self.directory / f"part-{len(self.files)}", metadata={"format": "pt"})
        self.files.append(list(self.pending))
        self.pending, self.bytes = {}, 0

    def close(self) -> None:
        self._flush()
        if len(self.files) == 1:
            (self.directory / "part-0").rename(self.directory / hf_model.SINGLE)
            return
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self.files):
            shard = f"model-{number + 1:05d}-of-{len(self.files):05d}.safetensors"
            (self.directory / f"part-{number}").rename(self.directory / shard)
            weight_map |= dict.fromkeys(names, shard)
        index = {"metadata": {"total_size": self.total}, "weight_map": weight_map}
        (self.directory / hf_model.INDEX).write_text(json.dumps(index, indent=2) + "\n")
