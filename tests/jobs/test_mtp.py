"""Heads for multi-token prediction in whole jobs: over ranks, and left out by the jobs after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.jobs import SHAPE, TRAINING, last, ranks, run_job

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("sequence", [False, pytest.param(True, marks=pytest.mark.drill)])
def test_tensor_parallel_ranks_equal_one(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path, sequence: bool
) -> None:
    """Heads of a student, with and without sequence parallelism; what they are exported as too."""
    config = TRAINING | {"steps": 4, "validate_every": 4, "ce_share": 0.5, "mtp": {"heads": 2}}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    one, two = run_job("distill", config, inputs, tmp_path / "one"), tmp_path / "two"
    layout = {"processes": 2, "tensor": 2, "sequence": sequence}
    ranks("distill", config | {"parallel": layout}, inputs, two, 2)
    for metric in ("val_loss", "val_mtp_loss", "val_mtp_loss_2", "train_objective", "grad_norm"):
        assert last(two, metric) == pytest.approx(last(one, metric), rel=1e-5), metric
    assert last(two, "val_mtp_accepted") == pytest.approx(last(one, "val_mtp_accepted"), abs=3e-3)
    alone = load_file(one / "mtp.safetensors")
    for key, tensor in load_file(two / "mtp.safetensors").items():
        torch.testing.assert_close(tensor, alone[key], rtol=1e-3, atol=1e-4)


def test_a_cut_model_has_no_heads(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its teacher's are told of in log, metrics and kept.json."""
    config: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": 3, "mtp": {"heads": 1}, "warmup_steps": 0}
    teacher = run_job("teacher", config, {"data": corpus}, tmp_path / "teacher")
    assert (teacher / "mtp.safetensors").is_file()
    cut = run_job("prune", {"drop_layers": [3]}, {"data": corpus, "teacher": teacher}, tmp_path / "cut")
    count = json.loads((teacher / "mtp.json").read_text())["parameters"]
    assert json.loads((cut / "kept.json").read_text())["mtp_dropped"]["parameters"] == count
    assert last(cut, "dropped_mtp_params") == count
    assert "left out, since a cut model has other states than they read" in capfd.readouterr().out
    assert not (cut / "mtp.safetensors").exists()
