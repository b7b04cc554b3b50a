"""A student measured in the middle of training: what is exported, who measures it, and what all ranks hear of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.spec import Spec
from jobs.benchmarks import watched
from jobs.evaluation import measure as evaluate
from jobs.megatron import evaluation, weights

SCORES: dict[str, Any] = {"val_loss": 2.0, "kl_teacher": 0.5, "agreement_teacher": 0.75}
ASKED = {"mmlu": 0.4, "mmlu_ci95": (0.3, 0.5), "mmlu_n": 100}
TOLD = {"test_loss": 2.0, "test_kl": 0.5, "test_agreement": 0.75, "arc": 0.625}


class Benchmark:
    """One that is asked of the exported student, as the recipe has it."""

    def score(self, exported: Any, directory: Path) -> dict[str, float]:
        assert exported == "opened" and (directory / "config.json").is_file()
        return {"arc": 0.625}


@pytest.fixture
def model() -> Any:
    """A student with a projection that serves only the loss."""
    found = torch.nn.Sequential(torch.nn.Linear(2, 2))
    found.add_module(weights.PROJECTIONS, torch.nn.ModuleList([torch.nn.Linear(2, 3)]))
    return found


def measured(model: Any, rank: int, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[Any, Any]:
    """What rank `rank` hears, and what it broadcast; as others heard it where it is not the first."""
    sent: list[Any] = []
    exported = folder / "checkpoints" / "exported"

    def save(one: Any, directory: Path, *_: Any) -> None:
        assert directory == exported and not hasattr(one, weights.PROJECTIONS)
        exported.mkdir(parents=True, exist_ok=True)
        (exported / "config.json").touch()

    def measure(directory: Path, teacher: Path, *_: Any, with_model: Any) -> Any:
        assert rank == 0 and directory == exported and teacher == folder / "teacher" / "model"
        with_model("opened")
        return SCORES | more, [], {}

    def broadcast(box: list[Any], src: int, group: Any) -> None:
        assert src == 0 and group == "waiting"
        sent.append(list(box))
        if rank:
            box[:] = [TOLD]

    patches: dict[Any, dict[str, Any]] = {
        torch.distributed: {"new_group": lambda **_: "waiting", "get_rank": lambda: rank},
        evaluate: {
            "check": lambda *_: None,
            "questions": lambda *_: [],
            "sequences": lambda *_: [],
            "measure": measure,
        },
        watched: {"watched": lambda *_: [Benchmark()]},
        weights: {"save": save},
    }
    for module, named in patches.items():
        for name, value in named.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    inputs = {role: str(folder / role) for role in ("teacher", "data", "student")}
    spec = Spec(stage="distill", key="k", config={}, inputs=inputs, output=str(folder))
    config: Any = SimpleNamespace(
        evaluate_every=2, evaluation=SimpleNamespace(precision="fp32"), evaluate_benchmarks=[], precision="fp32"
    )
    found = evaluation.evaluator(spec, config, model, {})
    assert found is not None
    return found(), sent


def test_the_first_rank_measures(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it exported is gone then, and the student has its projection again."""
    found, sent = measured(model, 0, tmp_path, monkeypatch, **ASKED)
    assert found == TOLD | {"mmlu": 0.4, "mmlu_n": 100, "mmlu_low": 0.3, "mmlu_high": 0.5}
    assert sent == [[found]] and not (tmp_path / "checkpoints" / "exported").exists()
    assert hasattr(model, weights.PROJECTIONS)


def test_the_others_hear_of_it(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, sent = measured(model, 1, tmp_path, monkeypatch)
    assert found == TOLD and sent == [[None]]


def test_nothing_is_evaluated_unless_asked_for(model: Any) -> None:
    config: Any = SimpleNamespace(evaluate_every=None)
    spec = Spec(stage="distill", key="k", config={}, inputs={}, output="none")
    assert evaluation.evaluator(spec, config, model, {}) is None
