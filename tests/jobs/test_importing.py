"""A model that is imported: how it is built, when it is compared, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.spec import Spec
from conf.stages.teacher import TeacherConfig
from jobs import teacher
from jobs.megatron import import_check, inputs
from jobs.megatron import model as megatron
from tests.fixtures.families import random_model
from tests.fixtures.weights import same, tensors
from tests.jobs.test_families import SIZES

pytestmark = pytest.mark.usefixtures("one_rank")
SMALL = SIZES | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 24, "head_dim": 4}
TRAINING = {"seq_length": 8, "global_batch": 2, "micro_batch": 1, "lr": 1.0, "min_lr": 0, "warmup_steps": 0}


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Imports a random bf16 model without a tokenizer; what was checked and built."""
    random_model("llama", tmp_path / "source", **SMALL)
    (tmp_path / "source" / "tokenizer.json").write_text("{}")

    def run(**settings: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {"compared": 0}

        def checked_model(folder: Path, data: Path, parallel: Any, length: int | None) -> dict[str, Any]:
            seen["length"] = length
            return megatron.read_config(folder)

        def compare(model: Any, *_: Any) -> dict[str, float]:
            seen["compared"] += 1
            seen["training"] = model.training
            return {"import_difference": 1e-6, "import_difference_layers": 2e-6}

        build = megatron.build

        def built(config: Any, parallel: Any, precision: str, device: Any, **how: Any) -> Any:
            seen.update(parallel=parallel, precision=precision, how=how)
            return build(config, parallel, precision, device, **how)

        monkeypatch.setattr(inputs, "checked_model", checked_model)
        monkeypatch.setattr(import_check, "compare", compare)
        monkeypatch.setattr(megatron, "build", built)
        config = {"model": str(tmp_path / "source"), "steps": 0, **TRAINING} | settings
        folders = {"data": str(tmp_path), "model": str(tmp_path / "source")}
        spec = Spec(stage="teacher", key="k", config=config, inputs=folders, output=str(tmp_path / "out"))
        (tmp_path / "out").mkdir(exist_ok=True)
        teacher._build_teacher(spec, TeacherConfig.model_validate(config), "cpu")
        return seen

    return run


def test_a_model_that_is_not_trained_is_written_as_it_was(
    imported: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    seen = imported()
    assert (seen["precision"], seen["length"], seen["training"]) == ("bf16", None, False)
    assert seen["how"] == {"for_pruning": True}
    assert same(tensors(tmp_path / "source"), tensors(tmp_path / "out" / "model"))
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record == {"import_difference": 1e-6, "import_difference_layers": 2e-6, "precision": "bf16"}
    (line,) = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert (line["step"], line["total"], line["values"]["import_difference"]) == (0, None, 1e-6)


def test_a_later_attempt_does_not_compare_again(imported: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert imported()["compared"] == 1
    assert imported()["compared"] == 0
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 1


def test_it_is_compared_with_whole_sequences(
    imported: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However training would spread them."""
    real = torch.distributed.get_rank
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None: real(group) if group else 1)
    parallel = {"processes": 4, "tensor": 2, "context": 2, "sequence": True, "threads": 1}
    monkeypatch.setattr("jobs.megatron.weights.load", lambda *_: None)
    monkeypatch.setattr("jobs.megatron.weights.save", lambda *_: None)
    monkeypatch.setattr("tests.jobs.test_importing.megatron.build", lambda *given, **_: Built(given[1]))
    seen = imported(parallel=parallel)
    found = seen["parallel"]
    assert (found.tensor, found.context, found.sequence) == (2, 1, False)


class Built(torch.nn.Module):
    """A model of some layout."""

    def __init__(self, parallel: Any) -> None:
        super().__init__()
        self.parallel = parallel
