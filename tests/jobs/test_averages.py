"""Averages of the last weights: the formula, what is exported, and the same numbers after a kill and on two ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.jobs import SHAPE, TRAINING, killed_after_a_checkpoint, last, ranks_all, run_job
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors

pytestmark = pytest.mark.slow
STEPS = 8
SHORT: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": STEPS, "checkpoint_every": 1, "checkpoints_kept": STEPS}
SHORT |= {"validate_every": 4, "global_batch": 4, "micro_batch": 2}
EMA = {"average": {"kind": "ema", "decay": 0.75}}
MEAN = {"average": {"kind": "mean", "last": 3, "every": 2}}


def weights_of(output: Path, step: int) -> dict[str, torch.Tensor]:
    """The trained weights after a step."""
    return in_checkpoint(output / "checkpoints" / f"step-{step:08}", "master")


def weighted(output: Path, shares: dict[int, float]) -> dict[str, torch.Tensor]:
    """The sum of the weights of some steps, each times its share."""
    steps = {step: weights_of(output, step) for step in shares}
    return {
        name: sum((shares[step] * held[name].double() for step, held in steps.items()), torch.zeros(()))  # type: ignore[misc]
        for name in steps[STEPS]
    }


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def plain(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training without an average."""
    return run_job("teacher", SHORT, {"data": corpus}, tmp_path_factory.mktemp("plain") / "teacher")


@pytest.fixture(scope="module")
def ema(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_job("teacher", SHORT | EMA, {"data": corpus}, tmp_path_factory.mktemp("ema") / "teacher")


@pytest.fixture(scope="module")
def mean(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its average is the model."""
    config = SHORT | MEAN | {"export": "average"}
    return run_job("teacher", config, {"data": corpus}, tmp_path_factory.mktemp("mean") / "teacher")


def test_an_ema_weighs_steps_by_its_decay(ema: Path) -> None:
    shares = {step: 0.75 ** (STEPS - step) for step in range(1, STEPS + 1)}
    total = sum(shares.values())
    expected = weighted(ema, {step: share / total for step, share in shares.items()})
    close(in_checkpoint(ema / "checkpoints" / f"step-{STEPS:08}", "average"), expected)


def test_a_mean_is_of_the_last_weights(mean: Path) -> None:
    close(tensors(mean / "model"), weighted(mean, {4: 1 / 3, 6: 1 / 3, 8: 1 / 3}))
    told = json.loads((mean / "average.json").read_text())
    assert {key: told[key] for key in ("kind", "last", "every", "step", "exported")} == {
        "kind": "mean",
        "last": 3,
        "every": 2,
        "step": STEPS,
        "exported": True,
    }
    assert told["losses"] == {"average_val_loss": last(mean, "average_val_loss")}


def test_training_goes_on_as_without_it(plain: Path, ema: Path, mean: Path) -> None:
    """Validating the average puts the trained weights back, bit for bit."""
    for averaged in (ema, mean):
        assert same(weights_of(plain, STEPS), weights_of(averaged, STEPS))
        assert last(averaged, "val_loss") == last(plain, "val_loss")
    assert same(tensors(plain / "model"), tensors(ema / "model")), "it was not asked to be exported"
    assert not (plain / "average.json").exists()


def test_the_average_is_validated(mean: Path, corpus: Path, tmp_path: Path) -> None:
    """Its loss is that of the exported model: training on from it begins with this loss."""
    lines = [json.loads(line) for line in (mean / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "average_val_loss" in line["values"]] == [4, 8]
    again = {"model": str(mean / "model")} | SHORT | {"shape": None, "steps": 1, "warmup_steps": 0, "validate_every": 1}
    inputs = {"data": corpus, "model": mean / "model"}
    output = run_job("teacher", again, inputs, tmp_path / "again")
    first = json.loads((output / "metrics.jsonl").read_text().splitlines()[1])
    assert first["step"] == 0
    assert first["values"]["val_loss"] == pytest.approx(last(mean, "average_val_loss"), rel=1e-5)


@pytest.mark.parametrize("average", [EMA, pytest.param(MEAN, marks=pytest.mark.drill)], ids=["ema", "mean"])
def test_a_killed_run_has_the_same_average(average: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    config = SHORT | average | {"export": "average", "steps": 20, "checkpoints_kept": 2}
    config |= {"average": average["average"] | ({"last": 12, "every": 1} if average is MEAN else {})}
    whole = run_job("teacher", config, {"data": corpus}, tmp_path / "whole")
    killed_after_a_checkpoint("teacher", config, {"data": corpus}, tmp_path / "killed")
    assert not (tmp_path / "killed" / "model").exists()
    resumed = run_job("teacher", config, {"data": corpus}, tmp_path / "killed")
    for name, tensor in tensors(whole / "model").items():
        torch.testing.assert_close(tensors(resumed / "model")[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "average"),
    [
        ("fp32", MEAN),
        ("bf16", EMA),
        pytest.param("fp32", EMA, marks=pytest.mark.drill),
        pytest.param("bf16", MEAN, marks=pytest.mark.drill),
    ],
)
def test_a_resumed_average_is_bit_for_bit_the_same(
    average: dict[str, Any], precision: str, corpus: Path, tmp_path: Path
) -> None:
    """As left by a run that was killed after step 5."""
    config = SHORT | average | {"export": "average", "precision": precision}
    whole = run_job("teacher", config, {"data": corpus}, tmp_path / "whole")
    resumed = run_job("teacher", config, {"data": corpus}, cut_after(5, whole, tmp_path / "cut"))
    newest = f"step-{STEPS:08}"
    for part in ("master", "average"):
        assert same(
            in_checkpoint(whole / "checkpoints" / newest, part), in_checkpoint(resumed / "checkpoints" / newest, part)
        )
    assert same(tensors(whole / "model"), tensors(resumed / "model"))
    assert last(resumed, "average_val_loss") == last(whole, "average_val_loss")


def test_bf16_averages_the_fp32_masters(corpus: Path, tmp_path: Path) -> None:
    config = SHORT | MEAN | {"export": "average", "precision": "bf16"}
    output = run_job("teacher", config, {"data": corpus}, tmp_path / "bf16")
    expected = weighted(output, {4: 1 / 3, 6: 1 / 3, 8: 1 / 3})
    close(in_checkpoint(output / "checkpoints" / f"step-{STEPS:08}", "average"), expected)
    for name, tensor in tensors(output / "model").items():
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.double(), expected[name], rtol=0.01, atol=1e-3)


def test_two_ranks_have_the_average_of_one(mean: Path, corpus: Path, tmp_path: Path) -> None:
    layouts: dict[str, dict[str, Any]] = {
        "tensor": {"processes": 2, "tensor": 2},
        "pipeline": {"processes": 2, "pipeline": 2},
        "data": {"processes": 2},
    }
    config = SHORT | MEAN | {"export": "average"}
    ranks_all(
        [
            ("teacher", config | {"parallel": layout}, {"data": corpus}, tmp_path / name)
            for name, layout in layouts.items()
        ],
        2,
    )
    for name in layouts:
        assert last(tmp_path / name, "average_val_loss") == pytest.approx(last(mean, "average_val_loss"), rel=1e-4)
        for tensor, expected in zip(
            tensors(tmp_path / name / "model").values(), tensors(mean / "model").values(), strict=True
        ):
            torch.testing.assert_close(tensor, expected, rtol=1e-2, atol=1e-3)


def test_projections_of_a_student_are_averaged_and_resumed(
    corpus: Path, teacher: Path, importance: Path, tmp_path: Path
) -> None:
    """The losses between layers of different widths go through learned projections, which are weights too."""
    cut = {"data": corpus, "teacher": teacher, "importance": importance}
    student = run_job("prune", {"hidden_size": 48}, cut, tmp_path / "student")
    config = {key: value for key, value in SHORT.items() if key != "shape"} | {"lr": 1e-3} | EMA | {"keep": "best"}
    config |= {"intermediate": [{"student_layer": 2, "teacher_layer": 2}]}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    whole = run_job("distill", config, inputs, tmp_path / "whole")
    assert any("projection" in name for name in in_checkpoint(whole / "checkpoints" / f"step-{STEPS:08}", "average"))
    resumed = run_job("distill", config, inputs, cut_after(5, whole, tmp_path / "cut"))
    names = list(json.loads((whole / "average.json").read_text())["losses"])
    assert {"average_val_kl", "average_val_loss"} <= set(names)
    for name in names:
        assert last(resumed, name) == last(whole, name)
    assert same(tensors(whole / "model"), tensors(resumed / "model"))
