"""Experts that two ranks divide: the same losses and weights as of one, also after a kill, under another layout, and
with a distributed optimizer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.fixtures.jobs import TRAINING, first, last, ranks, run_job, start_ranks
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors
from tests.jobs.test_experts import OWN, SHAPE, SIZES
from tests.jobs.test_families import IMPORT, written

pytestmark = pytest.mark.slow

COMMON: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": 4, "warmup_steps": 0, "checkpoint_every": 2}
COMMON |= {"validate_every": 4, "lr": 1e-3}
APART = {"processes": 2, "expert": 2, "threads": 1}
Trained = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training in a layout, or by this process where it is empty; each is run once."""
    folder, made = tmp_path_factory.mktemp("apart"), dict[str, Path]()

    def run(label: str, layout: dict[str, Any], **settings: Any) -> Path:
        if label not in made:
            config, output = COMMON | settings, folder / label
            if layout:
                ranks("teacher", config | {"parallel": layout}, {"data": corpus}, output, layout["processes"])
            else:
                run_job("teacher", config, {"data": corpus}, output)
            made[label] = output
        return made[label]

    return run


def assert_same_losses(ours: Path, alone: Path) -> None:
    assert first(ours, "val_loss") == pytest.approx(first(alone, "val_loss"), rel=1e-5)
    assert first(ours, "grad_norm") == pytest.approx(first(alone, "grad_norm"), rel=1e-5)
    assert last(ours, "val_loss") == pytest.approx(last(alone, "val_loss"), rel=1e-4)


def test_divided_experts_train_as_in_one_process(trained: Trained) -> None:
    alone, ours = trained("alone", {}), trained("divided", APART)
    assert_same_losses(ours, alone)
    before, after = tensors(alone / "model"), tensors(ours / "model")
    assert list(before) == list(after)
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-2


def test_each_rank_writes_its_experts_alone(trained: Trained) -> None:
    checkpoint = trained("divided", APART) / "checkpoints" / "step-00000004" / "master"
    held = []
    for rank in range(2):
        with safe_open(checkpoint / f"rank-{rank:05d}.safetensors", framework="pt") as file:
            held.append({name.split(".")[5] for name in file.keys() if ".experts." in name})  # noqa: SIM118
    assert held == [{"0", "1"}, {"2", "3"}]


@pytest.mark.parametrize("layout", [{}, APART | {"distributed_optimizer": True}], ids=["one process", "shared states"])
def test_a_killed_training_resumes_under_another_layout(
    layout: dict[str, Any], trained: Trained, corpus: Path, tmp_path: Path
) -> None:
    alone, ours = trained("alone", {}), trained("divided", APART)
    half = cut_after(2, ours, tmp_path / "half")
    if layout:
        ranks("teacher", COMMON | {"parallel": layout}, {"data": corpus}, half, 2)
        for metric in ("train_loss", "val_loss", "grad_norm"):
            assert last(half, metric) == pytest.approx(last(ours, metric), rel=1e-5), metric
    else:
        run_job("teacher", COMMON, {"data": corpus}, half)
        assert_same_losses(half, alone)


@pytest.mark.parametrize("name", OWN)
def test_an_import_by_divided_experts_is_equal_to_the_bit(name: str, corpus: Path, tmp_path: Path) -> None:
    source = written(name, tmp_path / "source", corpus, **SIZES, **OWN[name])
    config = {"model": str(source), "parallel": APART} | IMPORT
    output = ranks("teacher", config, {"data": corpus, "model": source}, tmp_path / "teacher", 2)
    assert last(output, "import_difference") < 1e-5
    before, after = tensors(source), tensors(output / "model")
    assert all((before[tensor] == after[tensor]).all() for tensor in before)


def test_a_killed_training_of_divided_experts_ends_the_same(trained: Trained, corpus: Path, tmp_path: Path) -> None:
    whole = trained("divided", APART)
    half = cut_after(2, whole, tmp_path / "half")
    ranks("teacher", COMMON | {"parallel": APART}, {"data": corpus}, half, 2)
    assert same(tensors(half / "model"), tensors(whole / "model"))
    one, other = (in_checkpoint(each / "checkpoints" / "step-00000004", "exp_avg_sq") for each in (half, whole))
    assert same(one, other)


SETTINGS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon"},
    "bf16 and an average": {"precision": "bf16", "average": {"kind": "ema"}},
    "bf16 and shared states": {"precision": "bf16", "parallel": {"distributed_optimizer": True}},
    "recomputation and balance": {"parallel": {"recompute": True}, "expert_balance": 0.1},
    "context": {"parallel": {"context": 2}},
    "tensor": {"parallel": {"processes": 4, "tensor": 2, "sequence": True}},
    "pipeline": {"parallel": {"processes": 4, "pipeline": 2}},
}


@pytest.mark.drill
@pytest.mark.parametrize("name", SETTINGS)
def test_divided_experts_train_with_every_setting(name: str, trained: Trained) -> None:
    given = SETTINGS[name] | {"parallel": APART | SETTINGS[name].get("parallel", {})}
    layout = given.pop("parallel")
    alone, ours = trained(f"{name} alone", {}, **given), trained(name, layout, **given)
    rel = 1e-2 if given.get("precision") == "bf16" else 1e-4
    assert first(ours, "grad_norm") == pytest.approx(first(alone, "grad_norm"), rel=rel)
    assert last(ours, "val_loss") == pytest.approx(last(alone, "val_loss"), rel=10 * rel)


@pytest.mark.drill
def test_divided_experts_are_distilled(trained: Trained, corpus: Path, tmp_path: Path) -> None:
    """The teacher has as many experts as divide, the student fewer layers and experts."""
    teacher = trained("taught", {}, steps=20)
    student = SHAPE | {"num_layers": 1, "num_experts": 2}
    cut = run_job("teacher", COMMON | {"shape": student, "steps": 1}, {"data": corpus}, tmp_path / "student")
    inputs = {"data": corpus, "teacher": teacher, "student": cut}
    config = {name: value for name, value in COMMON.items() if name != "shape"}
    alone = run_job("distill", config, inputs, tmp_path / "alone")
    ours = ranks("distill", config | {"parallel": APART}, inputs, tmp_path / "divided", 2)
    for metric in ("val_loss", "val_kl"):
        assert last(ours, metric) == pytest.approx(last(alone, metric), rel=1e-3), metric


@pytest.mark.drill
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_while_it_writes_loses_nothing(victim: int, corpus: Path, tmp_path: Path) -> None:
    """kill -9 of one of two ranks; the other gives up, and the job goes on to the same weights and moments."""
    config = COMMON | {"steps": 30, "validate_every": 30, "checkpoint_every": 1, "parallel": APART}
    whole = ranks("teacher", config, {"data": corpus}, tmp_path / "whole", 2)
    killed, checkpoints = tmp_path / "killed", tmp_path / "killed" / "checkpoints"
    _, jobs = start_ranks("teacher", config, {"data": corpus}, killed, 2)
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*/state.json")):
        assert time.monotonic() < deadline and not jobs[victim].ended.is_set()
        time.sleep(0.01)
    os.kill(jobs[victim].pid, signal.SIGKILL)
    assert jobs[1 - victim].ended.wait(120) and jobs[1 - victim].code
    assert not (killed / "model").exists()
    ranks("teacher", config, {"data": corpus}, killed, 2)
    assert same(tensors(killed / "model"), tensors(whole / "model"))
    newest = "step-00000030"
    one, other = (in_checkpoint(each / "checkpoints" / newest, "exp_avg_sq") for each in (killed, whole))
    assert same(one, other)
