"""What no rank may hold whole: optimizer states that data-parallel ranks share, checkpoints that every rank writes its
part of, and models that are written shard by shard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.fixtures.jobs import SHAPE, TRAINING, ToRun, first, last, ranks_all, run_job
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors

COMMON: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": 4, "warmup_steps": 0, "checkpoint_every": 2}
COMMON |= {"micro_batch": 2, "validate_every": 4}
DATA = {"processes": 2, "threads": 1}
SHARED = DATA | {"distributed_optimizer": True}
BF16 = {"precision": "bf16"}


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with trainings of two data-parallel ranks: each with an optimizer of its own (`plain`), or sharing one;
    and runs that ended after step 2 and went on elsewhere."""
    folder, inputs = tmp_path_factory.mktemp("scale"), {"data": corpus}

    def job(name: str, config: dict[str, Any]) -> ToRun:
        return "teacher", COMMON | config, inputs, folder / name

    alone = run_job(*job("alone", {}))
    jobs = [job("plain", {"parallel": DATA}), job("shared", {"parallel": SHARED})]
    jobs += [job("plain bf16", BF16 | {"parallel": DATA}), job("shared bf16", BF16 | {"parallel": SHARED})]
    ranks_all(jobs, 2)
    cut_after(2, alone, folder / "alone, then shared")
    cut_after(2, folder / "shared bf16", folder / "again bf16")
    jobs = [job("alone, then shared", {"parallel": SHARED}), job("again bf16", BF16 | {"parallel": SHARED})]
    ranks_all(jobs, 2)
    cut_after(2, folder / "shared", folder / "shared, then alone")
    run_job(*job("shared, then alone", {}))
    return folder


def held(output: Path, rank: int) -> int:
    """Bytes of optimizer states that a rank told of."""
    log = output.with_name(f"{output.name}.spec.json.rank-{rank}.log").read_text()
    return int(re.findall(r"the optimizer holds ([\d,]+) bytes", log)[-1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", " bf16"])
def test_sharing_ranks_train_as_others(runs: Path, precision: str) -> None:
    plain, shared = runs / f"plain{precision}", runs / f"shared{precision}"
    assert first(shared, "val_loss") == first(plain, "val_loss")
    for name in ("train_loss", "val_loss", "grad_norm"):
        assert last(shared, name) == pytest.approx(last(plain, name), rel=1e-3 if precision else 1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", " bf16"])
def test_two_ranks_hold_half_an_optimizer_each(runs: Path, precision: str) -> None:
    for rank in range(2):
        whole, half = (held(runs / f"{name}{precision}", rank) for name in ("plain", "shared"))
        assert half == pytest.approx(whole / 2, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alone, then shared", "shared, then alone"])
def test_a_shared_optimizer_goes_on_elsewhere(runs: Path, name: str) -> None:
    lines = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    for metric in ("train_loss", "val_loss", "grad_norm"):
        assert last(runs / name, metric) == pytest.approx(last(runs / "alone", metric), rel=1e-5), metric


@pytest.mark.slow
def test_a_shared_optimizer_goes_on_bit_for_bit(runs: Path) -> None:
    assert same(tensors(runs / "again bf16" / "model"), tensors(runs / "shared bf16" / "model"))
    whole, again = (
        in_checkpoint(runs / name / "checkpoints" / "step-00000004", "exp_avg_sq")
        for name in ("shared bf16", "again bf16")
    )
    assert same(whole, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "shared"])
def test_every_rank_writes_its_share_of_a_checkpoint(runs: Path, name: str) -> None:
    newest = runs / name / "checkpoints" / "step-00000004"
    for part in ("master", "exp_avg", "exp_avg_sq"):
        counts = []
        for path in sorted((newest / part).iterdir()):
            with safe_open(path, framework="pt") as file:
                counts.append(sum(file.get_tensor(key).numel() for key in file.keys()))  # noqa: SIM118 - no dict
        total = sum(weight.numel() for weight in tensors(runs / name / "model").values())
        assert counts == pytest.approx([total / 2] * 2, rel=0.01)
        assert sum(counts) == total
