"""Stands in for `nemo.collections.llm` where jobs/nemo.py is tested without GPUs: a checkpoint is the Hugging Face
directory, wrapped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def LlamaModel(config: Any) -> Any:  # noqa: N802 - NeMo's name
    return config


def Llama31Config8B() -> str:  # noqa: N802 - NeMo's name
    return "llama"


def import_ckpt(model: Any, source: str, output_path: str) -> None:
    assert model == "llama"
    wrap(Path(source.removeprefix("hf://")), Path(output_path))


def export_ckpt(path: str, target: str, output_path: str) -> None:
    assert target == "hf"
    shutil.copytree(Path(path) / "weights", output_path)


def wrap(model: Path, checkpoint: Path) -> None:
    shutil.copytree(model, checkpoint / "weights")
    (checkpoint / "context").mkdir()
