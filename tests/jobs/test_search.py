"""What is written of scored candidates; the scores are made by hand."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.shape import Shape, num_params
from conf.spec import Spec
from jobs import search
from jobs.megatron import candidate_score, device

TEACHER = Shape(
    num_layers=4, hidden_size=64, ffn_hidden_size=96, num_attention_heads=4, num_query_groups=2, vocab_size=384
)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs one of the two programs, as some rank; what it was asked to score, and what it wrote."""

    def run(program: Any, config: dict[str, Any], rank: int = 0) -> tuple[list[Shape], Any]:
        asked: list[Shape] = []

        def score_cuts(inputs: Any, given: Any, order: Any, cuts: Any, output: Path, where: Any) -> Any:
            assert order == (given.ranking, given.seed)
            asked.extend(cuts(TEACHER))
            scored = [(shape, {"val_loss": 3.0 + number}) for number, shape in enumerate(asked)]
            return TEACHER, {"val_loss": 2.5}, scored

        monkeypatch.setattr(candidate_score, "score_cuts", score_cuts)
        monkeypatch.setattr(device, "machine", lambda *_, **__: contextlib.nullcontext(torch.device("cpu")))
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        name = program.__name__.rpartition(".")[2]
        program.run(Spec(stage=name, key="k", config=config, output=str(tmp_path)))
        file = tmp_path / f"{name}.json"
        return asked, json.loads(file.read_text()) if file.exists() else None

    return run


SEARCH = {"target_params": 0.9, "memory_batch": 2, "memory_length": 100, "hidden_divisor": 16, "ffn_divisor": 16}


def test_candidates_are_written_with_their_sizes(job: Callable[..., Any]) -> None:
    asked, written = job(search, SEARCH)
    teacher, candidates = written["teacher"], written["candidates"]
    assert [entry["params"] for entry in candidates] == [num_params(shape) for shape in asked]
    assert [entry["val_loss"] for entry in candidates] == [3.0 + number for number in range(len(asked))]
    assert len(asked) > 1 and all(entry["params"] <= 0.9 * teacher["params"] for entry in candidates)
    assert teacher["shape"]["hidden_size"] == 64 and teacher["val_loss"] == 2.5 and "active" not in teacher
    cache = 2 * 100 * 4 * 2 * 2 * 16  # sequences, tokens, layers, keys and values, groups, width
    assert teacher["memory_mb"] == pytest.approx(2 * (num_params(TEACHER) + cache) / 1e6)


def test_one_rank_writes(job: Callable[..., Any]) -> None:
    assert job(search, SEARCH, rank=1)[1] is None
