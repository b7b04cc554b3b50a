"""Spikes: which steps are found, that they leave no trace in the weights, and the same training after a kill and on two
ranks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conf.parallel import Parallel
from conf.stages.spikes import Spikes
from jobs.megatron.spikes import Rewind, SpikeWatch
from jobs.runtime import checkpoint_folder
from jobs.runtime.exit import Diverged
from tests.fixtures.jobs import SHAPE, TRAINING, last, refused, run_job, torchrun_all
from tests.fixtures.weights import cut_after, in_checkpoint, same, tensors

STEPS, JUNK = 30, 25
SHORT: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": STEPS, "validate_every": STEPS, "global_batch": 4}
WATCHED = SHORT | {"spikes": {"window": 20, "loss": 1.5}}


@pytest.fixture
def watch() -> Iterator[Callable[..., SpikeWatch]]:
    """Makes watches in a world of one process."""
    from jobs.megatron.device import machine

    with machine(Parallel(), 1):
        yield lambda **settings: SpikeWatch(Spikes(**settings))


def found(watch: SpikeWatch, values: list[tuple[float, float]]) -> list[int]:
    """The steps that are spikes, of losses and gradient norms."""
    return [step for step, (loss, norm) in enumerate(values, 1) if watch.skips(step, loss, norm)]


def test_a_step_is_judged_by_the_median_before(watch: Callable[..., SpikeWatch]) -> None:
    calm = [(2.0, 1.0 + step / 10) for step in range(5)]  # median norm 1.2
    assert found(watch(window=5), [*calm, (2.0, 5.9), (2.0, 1.0)]) == []
    assert found(watch(window=5), [*calm, (2.0, 6.1), (2.0, 1.0)]) == [6]
    assert found(watch(window=5), [*calm, (4.1, 1.0), (2.0, 1.0)]) == [6]
    assert found(watch(window=5, loss=None), [*calm, (400.0, 1.0)]) == []
    assert found(watch(window=5, grad_norm=None), [*calm, (2.0, 400.0)]) == []
    assert found(watch(window=6), [*calm, (400.0, 400.0)]) == [], "too few steps before"


def test_a_spike_does_not_raise_the_median(watch: Callable[..., SpikeWatch]) -> None:
    assert found(watch(window=5), [(1.0, 1.0)] * 5 + [(1.0, 50.0)] * 8) == list(range(6, 14))


@pytest.mark.parametrize("values", [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (1.0, math.inf)])
def test_what_is_no_number_is_always_a_spike(watch: Callable[..., SpikeWatch], values: tuple[float, float]) -> None:
    assert found(watch(), [values, (1.0, 1.0)]) == [1]


def test_its_state_goes_through_a_checkpoint(watch: Callable[..., SpikeWatch]) -> None:
    one, other = watch(window=5), watch(window=5)
    found(one, [(1.0, 0.1)] * 5 + [(1.0, math.nan)])
    other.resume(json.loads(json.dumps(one.state())))
    assert other.skipped == [{"step": 6, "reason": "its gradient norm is nan"}]
    assert [each.skips(7, 1.0, 0.6) for each in (one, other)] == [True, True]
    assert one.state() == other.state()


def test_too_many_in_a_row_end_the_run(watch: Callable[..., SpikeWatch]) -> None:
    kept = watch(window=5, most=3)
    assert found(kept, [(1.0, 1.0)] * 5 + [(1.0, 9.0)] * 2 + [(1.0, 1.0)] + [(1.0, 9.0)] * 2) == [6, 7, 9, 10]
    with pytest.raises(ValueError, match="3 steps in a row were skipped, the last, step 11, because its gradient norm"):
        kept.skips(11, 1.0, 9.0)


def test_training_goes_back_to_the_point_before(watch: Callable[..., SpikeWatch]) -> None:
    kept = watch(window=5, action="rewind", rewind_every=4)
    assert [step for step in range(10) if kept.point(step)] == [0, 4, 8]
    with pytest.raises(Rewind, match=r"step 8 is a spike because .*; training goes on from step 4 with other batches"):
        found(kept, [(1.0, 1.0)] * 7 + [(1.0, math.nan)])
    assert [(each["step"], each["to"], each["left_out"]) for each in kept.rewound] == [(8, 4, 4)]
    assert not any(watch(window=5).point(step) for step in range(10))


def test_a_third_rewind_ends_the_run(watch: Callable[..., SpikeWatch]) -> None:
    kept = watch(window=5, action="rewind", rewind_every=4, rewinds=2)
    for step in (6, 9):
        with pytest.raises(Rewind):
            kept.skips(step, math.nan, 1.0)
    assert [each["to"] for each in kept.rewound] == [4, 8]
    words = r"step 9 is a spike because its loss is nan, and training went back 2 times already; lower lr, look at"
    with pytest.raises(Diverged, match=words):
        kept.skips(9, math.nan, 1.0)
    kept.rewound, kept.config = kept.rewound[:1], Spikes(action="rewind", rewind_every=4, rewinds=1)
    with pytest.raises(Diverged, match="went back 1 time already"):
        kept.skips(9, math.nan, 1.0)


@pytest.mark.parametrize("rank", [0, 1])
def test_where_it_went_back_to_is_a_file(
    rank: int, watch: Callable[..., SpikeWatch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the first rank writes, as it removes the checkpoints after it, and reads for all."""
    kept, folder = watch(action="rewind", rewind_every=4), tmp_path / "checkpoints"
    for step in (4, 6):
        checkpoint_folder.seal(checkpoint_folder.begin(folder, step), 9, {}, {}, 4)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    kept.rewound = [{"step": 3, "to": 0}, {"step": 7, "to": 4}]
    kept.go_back(tmp_path, folder)
    left = [checkpoint_folder.step_of(path) for path in checkpoint_folder.existing(folder)]
    assert left == ([4] if rank == 0 else [4, 6]) and (tmp_path / "rewinds.json").exists() is (rank == 0)
    (tmp_path / "rewinds.json").write_text(json.dumps(kept.rewound))
    sent: list[Any] = []
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda box, src: sent.append((list(box), src)))
    again = watch(action="rewind", rewind_every=4)
    again.begin(tmp_path)
    assert sent == [([kept.rewound if rank == 0 else []], 0)]
    again.finish(9, tmp_path)
    if rank:
        assert not (tmp_path / "spikes.json").exists()
    else:
        told = json.loads((tmp_path / "spikes.json").read_text())
        assert (told["steps"], told["skipped"], told["rewound"]) == (9, [], kept.rewound)


def test_without_a_checkpoint_it_says_so(watch: Callable[..., SpikeWatch], tmp_path: Path) -> None:
    kept = watch(action="rewind", rewind_every=4)
    kept.rewound = [{"to": 4, "left_out": 3}]
    with pytest.raises(ValueError, match=r"goes back to step 4, but .* has no checkpoint from which it could; start"):
        kept.go_back(tmp_path, tmp_path / "checkpoints")
    again = watch(action="rewind", rewind_every=4)
    again.begin(tmp_path)
    assert again.rewound == kept.rewound
    (tmp_path / "rewinds.json").unlink()
    again.begin(tmp_path)
    assert again.rewound == []


def test_a_spike_of_another_rank_is_one(watch: Callable[..., SpikeWatch], monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce(spike: torch.Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MAX and spike.item() == 0
        spike.fill_(1.0)

    kept = watch()
    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    assert kept.skips(3, 1.0, 1.0) and kept.skipped == [{"step": 3, "reason": "another rank found a spike"}]


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, steps: dict[int, str]) -> Iterator[None]:
    """Some steps see a batch of random tokens (junk), or have a gradient that is no number (nan)."""
    from jobs.megatron import training

    whole_pass = training._Run._pass

    def broken_pass(run: Any, samples: Any) -> dict[str, float]:
        kind = steps.get(run.scheduler.num_steps + 1)
        if kind == "junk":
            drawn = np.random.default_rng(0).integers(0, 384, samples.tokens.shape)
            samples = replace(samples, tokens=drawn)
        losses = whole_pass(run, samples)
        if kind == "nan":
            next(run.model.parameters()).main_grad.fill_(torch.nan)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_pass", broken_pass)
        yield


def weights_of(output: Path, step: int) -> dict[str, torch.Tensor]:
    return in_checkpoint(output / "checkpoints" / f"step-{step:08}", "master")


def skipped(output: Path) -> list[int]:
    return [each["step"] for each in json.loads((output / "spikes.json").read_text())["skipped"]]


@pytest.mark.slow
def test_a_junk_batch_leaves_no_trace(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every: dict[str, Any] = {"checkpoint_every": 1, "checkpoints_kept": STEPS}
    clean = run_job("teacher", SHORT | every, {"data": corpus}, tmp_path / "clean")
    calm = run_job("teacher", WATCHED, {"data": corpus}, tmp_path / "calm")
    assert skipped(calm) == []
    assert same(tensors(clean / "model"), tensors(calm / "model")), "to look for spikes changed the training"
    with broken(monkeypatch, {JUNK: "junk"}):
        spared = run_job("teacher", WATCHED | every, {"data": corpus}, tmp_path / "spared")
    assert skipped(spared) == [JUNK]
    assert same(weights_of(spared, JUNK - 1), weights_of(clean, JUNK - 1))
    assert same(weights_of(spared, JUNK), weights_of(clean, JUNK - 1))
    assert not same(weights_of(spared, JUNK + 1), weights_of(spared, JUNK))
    assert last(spared, "skipped_steps") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "steps", "cut"),
    [
        ("adamw", {12: "nan", JUNK: "junk"}, JUNK + 1),
        ("muon", {1: "nan", 2: "nan"}, 1),
        pytest.param("muon", {12: "nan", JUNK: "junk"}, JUNK + 1, marks=pytest.mark.drill),
        pytest.param("adamw", {1: "nan", 2: "nan"}, 1, marks=pytest.mark.drill),
    ],
)
def test_a_killed_run_skips_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, steps: dict[int, str], cut: int
) -> None:
    """Also where it ended after a first step that was skipped, before the optimizer had any state."""
    config = WATCHED | {"optimizer": optimizer, "checkpoint_every": cut, "checkpoints_kept": STEPS}
    with broken(monkeypatch, steps):
        whole = run_job("teacher", config, {"data": corpus}, tmp_path / "whole")
        again = run_job("teacher", config, {"data": corpus}, cut_after(cut, whole, tmp_path / "again"))
    assert skipped(whole) == skipped(again) == list(steps)
    assert same(weights_of(whole, STEPS), weights_of(again, STEPS))
    for name in ("exp_avg", "exp_avg_sq"):
        state = [in_checkpoint(each / "checkpoints" / f"step-{STEPS:08}", name) for each in (whole, again)]
        assert same(*state)
    assert "NaN" not in (whole / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_run_of_spikes_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with broken(monkeypatch, dict.fromkeys(range(5, 15), "nan")):
        sentence = refused("teacher", WATCHED, {"data": corpus}, tmp_path / "out", capfd)
    assert "10 steps in a row were skipped, the last, step 14, because its gradient norm is nan" in sentence
    assert "raise spikes.most" in sentence


@pytest.mark.parametrize(
    "layout", [{}, *(pytest.param({kind: 2}, marks=pytest.mark.drill) for kind in ("tensor", "pipeline"))]
)
@pytest.mark.slow
def test_nan_on_one_rank_is_skipped_by_all(layout: dict[str, int], corpus: Path, tmp_path: Path) -> None:
    """Whether it reaches the others through the gradients or not."""
    config = WATCHED | {"steps": 24, "micro_batch": 2, "validate_every": 24}
    config |= {"parallel": {"processes": 2, "threads": 1} | layout}
    output = tmp_path / "out"
    torchrun_all([("teacher", config, {"data": corpus}, output)], 2, "tests.fixtures.nan_on_one_rank")
    assert skipped(output) == [14, 17]
    assert all(tensor.isfinite().all() for tensor in tensors(output / "model").values())
    assert last(output, "val_loss") < 5.0


@pytest.mark.drill
@pytest.mark.parametrize("layout", [{}, {"tensor": 2}, {"pipeline": 2}])
@pytest.mark.slow
def test_all_ranks_go_back_from_a_spike_of_one(layout: dict[str, int], corpus: Path, tmp_path: Path) -> None:
    """From step 14 to 12, and from the step after that one, which is 15, to 12 again."""
    config = WATCHED | {"steps": 24, "micro_batch": 2, "validate_every": 24}
    config |= {"spikes": {"window": 20, "loss": 1.5, "action": "rewind", "rewind_every": 4}}
    config |= {"parallel": {"processes": 2, "threads": 1} | layout}
    output = tmp_path / "out"
    torchrun_all([("teacher", config, {"data": corpus}, output)], 2, "tests.fixtures.nan_on_one_rank")
    rewound = json.loads((output / "spikes.json").read_text())["rewound"]
    assert [(each["step"], each["to"], each["left_out"]) for each in rewound] == [(14, 12, 2), (15, 12, 3)]
    assert all(tensor.isfinite().all() for tensor in tensors(output / "model").values())
