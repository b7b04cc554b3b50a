"""The average of the weights of a few made-up steps, in fp32 and beside bf16 weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.stages.teacher import TeacherConfig
from jobs.megatron.averages import WeightAverage

STEPS = 8
EMA = {"average": {"kind": "ema", "decay": 0.75}}
MEAN = {"average": {"kind": "mean", "last": 3, "every": 2}}
SHARES = {
    "ema": {step: 0.25 * 0.75 ** (STEPS - step) / (1 - 0.75**STEPS) for step in range(1, STEPS + 1)},
    "mean": {4: 1 / 3, 6: 1 / 3, 8: 1 / 3},
}


def config(**given: Any) -> TeacherConfig:
    sizes = {"seq_length": 8, "global_batch": 2, "micro_batch": 2, "lr": 1.0, "min_lr": 0.0, "warmup_steps": 0}
    return TeacherConfig.model_validate(sizes | {"steps": STEPS, "model": "none"} | given)


def trained(average: WeightAverage, model: torch.nn.Linear) -> None:
    """Eight steps, after which the first weight is the square of the step."""
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            for weight in model.parameters():
                master = getattr(weight, "main_param", weight)
                master.fill_(step**2)
                weight.copy_(master)
        average.update(step)


def linear(dtype: torch.dtype = torch.float32) -> torch.nn.Linear:
    """The masters of bf16 weights are fp32; the bias is not trained."""
    model: Any = torch.nn.Linear(2, 2).to(dtype)
    model.bias.requires_grad = False
    if dtype == torch.bfloat16:
        model.weight.main_param = model.weight.detach().float()
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["ema", "mean"])
def test_weights_count_by_their_shares(kind: str, dtype: torch.dtype) -> None:
    model = linear(dtype)
    average = WeightAverage(model, config(**(EMA if kind == "ema" else MEAN)))
    assert not average.begun
    trained(average, model)
    expected = sum(share * step**2 for step, share in SHARES[kind].items())
    held = average.tensor_of(model.weight)
    assert held.dtype == torch.float32 and not held.requires_grad
    assert held.tolist() == [[pytest.approx(expected)] * 2] * 2
    assert average.begun and average.step == STEPS
    with pytest.raises(KeyError):
        average.tensor_of(model.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_in_the_model_inside_and_not_after(dtype: torch.dtype) -> None:
    model = linear(dtype)
    average = WeightAverage(model, config(**MEAN))
    trained(average, model)
    held = average.tensor_of(model.weight).clone()
    with pytest.raises(RuntimeError, match="validation"), average.installed():
        assert model.weight.tolist() == held.to(dtype).tolist()
        raise RuntimeError("validation")
    assert model.weight.eq(64).all()
    assert torch.equal(average.tensor_of(model.weight), held)


@pytest.mark.parametrize("export", ["weights", "average"])
def test_what_is_exported_is_told(export: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    model = linear()
    average = WeightAverage(model, config(**MEAN, export=export))
    trained(average, model)
    average.finish(tmp_path, {"average_val_loss": 1.5})
    expected = (16 + 36 + 64) / 3 if export == "average" else 64
    assert model.weight.tolist() == [[pytest.approx(expected)] * 2] * 2
    assert json.loads((tmp_path / "average.json").read_text()) == {
        "kind": "mean",
        "last": 3,
        "every": 2,
        "step": STEPS,
        "exported": export == "average",
        "losses": {"average_val_loss": 1.5},
    }


def test_only_the_first_rank_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    WeightAverage(linear(), config(**MEAN)).finish(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
