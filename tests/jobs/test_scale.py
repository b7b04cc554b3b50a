"""What no rank may hold whole: optimizer states that data-parallel ranks share, checkpoints that every rank writes its
part of, and models that are written shard by shard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.fixtures.jobs import SHAPE, TRAINING, ToRun, first, last, ranks_all, run_job, torchrun_all
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors

UNTIED = SHAPE | {"tie_word_embeddings": False}
"""Its output layer, which only the losses read, is gathered last."""
COMMON: dict[str, Any] = TRAINING | {"shape": UNTIED, "steps": 4, "warmup_steps": 0, "checkpoint_every": 2}
COMMON |= {"micro_batch": 2, "validate_every": 4}
DATA = {"processes": 2, "threads": 1}
SHARED = DATA | {"distributed_optimizer": True}
BF16 = {"precision": "bf16"}


class TwoRanks:
    """A group of this rank and another."""

    def size(self) -> int:
        return 2


@pytest.mark.parametrize("fault", [None, "[Errno 5] Input/output error"])
def test_a_failed_write_of_one_rank_fails_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    import torch

    from jobs.megatron.checkpoint import Saver

    def gathered(told: list[Any], own: Any, group: Any) -> None:
        told[:] = [own, ({"master/rank-00001.safetensors": "0" * 64}, fault)]

    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    monkeypatch.setattr("jobs.megatron.checkpoint._tensor_place", lambda: (0, 1))
    saver = Saver(tmp_path / "checkpoints", 2)
    saver._group = TwoRanks()  # type: ignore[assignment]
    note = {"start": 0, "shape": [3], "split": "whole", "names": ["weight"]}
    saver._write(4, {"master": ({"weight": torch.ones(3)}, {"weight": note})}, {})
    left = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    if fault is None:
        assert (saver._error, left) == (None, ["step-00000004"])
        state = json.loads((tmp_path / "checkpoints" / left[0] / "state.json").read_text())
        assert list(state["digests"]) == [f"master/rank-0000{rank}.safetensors" for rank in range(2)]
        return
    assert left == []
    with pytest.raises(OSError, match=r"rank 1 could not write its part of a checkpoint: \[Errno 5\]"):
        saver.wait()


def test_a_piece_that_is_missing_is_told(tmp_path: Path) -> None:
    import torch

    from jobs.megatron import pieces

    def write(rank: int, start: int) -> None:
        note = {"start": start, "shape": [2, 3], "split": "rows", "names": ["weight"]}
        taken: pieces.Snapshot = {"master": ({"weight": torch.arange(3.0) + start}, {"weight": note})}
        pieces.write(tmp_path, taken, rank, (0, 1))

    with pytest.raises(ValueError, match="holds no rank's weights: another version of imbik wrote this checkpoint"):
        pieces.Pieces(tmp_path / "master")
    write(1, 3)
    with pytest.raises(ValueError, match="holds 0 of the numbers of weight in sequence, of 6; remove"):
        pieces.Pieces(tmp_path / "master").tensor("weight")
    write(0, 0)
    assert pieces.Pieces(tmp_path / "master").tensor("weight").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="lacks bias"):
        pieces.Pieces(tmp_path / "master").tensor("bias")


def test_a_written_model_is_held_a_shard_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While tensors arrive one by one, no more than a shard of them waits."""
    import torch
    from safetensors.torch import load_file

    from jobs.megatron import shards

    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    writer, most = shards.ShardWriter(tmp_path), 0
    for number in range(20):
        writer.add(f"layer.{number}", torch.full((100,), float(number)))
        most = max(most, sum(each.nbytes for each in writer.pending.values()))
    writer.close()
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert (most, len(files)) == (800, 10)
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(found[f"layer.{number}"].eq(number).all() for number in range(20))


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with trainings of two data-parallel ranks: each with an optimizer of its own (`plain`), or sharing one;
    and runs that ended after step 2 and went on elsewhere."""
    folder, inputs = tmp_path_factory.mktemp("scale"), {"data": corpus}

    def job(name: str, config: dict[str, Any]) -> ToRun:
        return "teacher", COMMON | config, inputs, folder / name

    alone = run_job(*job("alone", {}))
    cut_after(2, alone, folder / "alone, then shared")
    jobs = [job(name, {"parallel": SHARED}) for name in ("shared", "alone, then shared")]
    jobs += [job("plain bf16", BF16 | {"parallel": DATA}), job("shared bf16", BF16 | {"parallel": SHARED})]
    ranks_all(jobs, 2)
    cut_after(2, folder / "shared bf16", folder / "again bf16")
    ranks_all([job("again bf16", BF16 | {"parallel": SHARED})], 2)
    cut_after(2, folder / "shared", folder / "shared, then alone")
    run_job(*job("shared, then alone", {}))
    return folder


def held(output: Path, rank: int) -> int:
    """Bytes of optimizer states that a rank told of."""
    log = output.with_name(f"{output.name}.spec.json.rank-{rank}.log").read_text()
    return int(re.findall(r"the optimizer holds ([\d,]+) bytes", log)[-1].replace(",", ""))


def params(output: Path) -> int:
    return sum(weight.numel() for weight in tensors(output / "model").values())


@pytest.mark.slow
@pytest.mark.parametrize(("shared", "plain", "rel"), [("shared", "alone", 1e-6), ("shared bf16", "plain bf16", 1e-3)])
def test_sharing_ranks_train_as_others(runs: Path, shared: str, plain: str, rel: float) -> None:
    assert first(runs / shared, "val_loss") == pytest.approx(first(runs / plain, "val_loss"), rel=1e-6)
    for name in ("train_loss", "val_loss", "grad_norm"):
        assert last(runs / shared, name) == pytest.approx(last(runs / plain, name), rel=2 * rel), name


@pytest.mark.slow
def test_two_ranks_hold_half_an_optimizer_each(runs: Path) -> None:
    """Two moments, and beside bf16 weights an fp32 copy."""
    for name, each in (("plain bf16", 12), ("shared bf16", 6), ("shared", 4)):
        for rank in range(2):
            assert held(runs / name, rank) == pytest.approx(each * params(runs / name), rel=0.01), name


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
@pytest.mark.parametrize("name", ["plain bf16", "shared"])
def test_every_rank_writes_its_share_of_a_checkpoint(runs: Path, name: str) -> None:
    newest = runs / name / "checkpoints" / "step-00000004"
    for part in ("master", "exp_avg", "exp_avg_sq"):
        counts = []
        for path in sorted((newest / part).iterdir()):
            with safe_open(path, framework="pt") as file:
                counts.append(sum(file.get_tensor(key).numel() for key in file.keys()))  # noqa: SIM118 - no dict
        total = params(runs / name)
        assert counts == pytest.approx([total / 2] * 2, rel=0.01)
        assert sum(counts) == total


@pytest.mark.slow
def test_gradients_in_many_buckets_make_the_same_steps(runs: Path, corpus: Path, tmp_path: Path) -> None:
    """Each is summed while the last micro-batch's backward pass goes on, and of each a rank that shares an optimizer
    steps a part; a run that ended after step 2 goes on with one bucket."""
    jobs: list[ToRun] = [
        ("teacher", COMMON | {"parallel": layout}, {"data": corpus}, tmp_path / name)
        for name, layout in (("plain", DATA), ("shared", SHARED))
    ]
    torchrun_all(jobs, 2, "tests.fixtures.small_buckets")
    cut_after(2, tmp_path / "shared", tmp_path / "one bucket")
    run_job("teacher", COMMON, {"data": corpus}, tmp_path / "one bucket")
    for name in ("plain", "shared", "one bucket"):
        for metric in ("train_loss", "val_loss", "grad_norm"):
            found, whole = last(tmp_path / name, metric), last(runs / "alone", metric)
            assert found == pytest.approx(whole, rel=1e-5), (name, metric)
