"""A tiny model, and what its decoder reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from jobs.generation.lean import Lean
from jobs.huggingface import model as hf
from tests.fixtures.decoding import SIZES
from tests.fixtures.families import random_model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("llama")
    random_model("llama", folder, torch.float32, **SIZES)
    return hf.load_model(folder, torch.float32)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[int, int]]]:
    """Keeps the [rows, tokens] of each forward pass of a model."""

    def watch(model: Any) -> list[tuple[int, int]]:
        shapes: list[tuple[int, int]] = []
        forward = model.model.forward

        def counted(tokens: torch.Tensor, **given: Any) -> Any:
            shapes.append((tokens.shape[0], tokens.shape[1]))
            return forward(tokens, **given)

        def lean(compute: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            def counted(self: Lean, tokens: torch.Tensor, *given: Any) -> torch.Tensor:
                shapes.append((len(tokens), tokens[0].numel()))
                return compute(self, tokens, *given)

            return counted

        monkeypatch.setattr(model.model, "forward", counted)
        monkeypatch.setattr(Lean, "__call__", lean(Lean.__call__))
        monkeypatch.setattr(Lean, "read", lean(Lean.read))
        return shapes

    return watch
