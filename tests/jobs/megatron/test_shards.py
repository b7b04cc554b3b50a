"""Files of bounded size, as transformers names and reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.megatron import shards


def written(folder: Path, *counts: int) -> list[str]:
    """fp32 tensors of so many numbers; the files' names."""
    writer = shards.ShardWriter(folder)
    for place, count in enumerate(counts):
        writer.add(f"t{place}", torch.full((count,), place))
    writer.close()
    return sorted(path.name for path in folder.iterdir())


def test_what_fits_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 * 6)
    folder = tmp_path / "of a checkpoint" / "model"
    for _ in range(2):
        assert written(folder, 2, 4) == ["model.safetensors"]
    assert load_file(folder / "model.safetensors")["t1"].tolist() == [1] * 4


def test_a_file_is_full_at_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 8 * 6)
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert written(tmp_path, 2, 4, 9, 1) == [*names, "model.safetensors.index.json"]
    assert [list(load_file(tmp_path / name)) for name in names] == [["t0", "t1"], ["t2"], ["t3"]]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 16 * 8},
        "weight_map": {"t0": names[0], "t1": names[0], "t2": names[1], "t3": names[2]},
    }
