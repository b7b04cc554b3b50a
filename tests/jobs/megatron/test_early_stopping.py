"""Which weights are kept and when a training stops, for made-up losses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.megatron.early_stopping import State, Watch


def watch(scores: Any = None, **given: Any) -> tuple[Watch, torch.nn.Parameter]:
    """Of a model of one weight."""
    settings = {"keep": "last", "best_by": "val_kl", "patience": None, "min_delta": 0.0, "evaluate_every": None}
    sizes = {"steps": 20, "global_batch": 4, "seq_length": 8, "judged_after": -1}
    model: Any = torch.nn.Linear(1, 1, bias=False)
    config: Any = SimpleNamespace(**settings | sizes | given)
    return Watch(model, config, scores), model.weight


def judged(watched: Watch, weight: torch.Tensor, values: list[float], name: str = "val_kl") -> None:
    """Checks after steps 1, 2, ..., each with its own weight."""
    for step, value in enumerate(values, 1):
        weight.data.fill_(step)
        watched.check(step, {name: value})


@pytest.mark.parametrize(
    ("values", "delta", "checks", "best"),
    [
        ([3.0, 2.0, 1.0], 0.0, 0, 3),
        ([3.0, 3.0, 3.0], 0.0, 2, 1),
        ([3.0, 4.0, 2.0, 2.5], 0.0, 1, 3),
        ([3.0, 2.75, 2.5], 0.5, 2, 3),
        ([3.0, 2.75, 2.25], 0.5, 0, 3),
        ([3.0, 2.25, 2.0], 0.5, 1, 3),
        ([3.0, 2.625], 0.5, 1, 2),
    ],
)
def test_improvements_are_measured_from_the_last(values: list[float], delta: float, checks: int, best: int) -> None:
    watched, weight = watch(min_delta=delta)
    judged(watched, weight, values)
    assert (watched.state.checks_without_improvement, watched.state.best_step) == (checks, best)
    assert watched.state.best == min(values)


@pytest.mark.parametrize("score", ["mmlu", "gsm8k"])
def test_more_is_better_of_answers(score: str) -> None:
    watched, weight = watch(best_by=score, min_delta=0.1)
    judged(watched, weight, [0.2, 0.25, 0.4, 0.3, 0.48], score)
    assert (watched.state.best, watched.state.best_step) == (0.48, 5)
    assert (watched.state.reference, watched.state.checks_without_improvement) == (0.4, 2)


@pytest.mark.parametrize(("patience", "exhausted"), [(None, False), (2, True), (3, False)])
def test_patience_counts_checks(patience: int | None, exhausted: bool) -> None:
    watched, weight = watch(patience=patience)
    assert not watched.patience_exhausted and watched.state.checks_without_improvement == 0
    judged(watched, weight, [1.0, 2.0, 2.0])
    assert watched.patience_exhausted is exhausted


def test_only_the_last_phase_is_judged() -> None:
    """From step 3 on: what came before is no reference, however good, but may be the best."""
    watched, weight = watch(patience=2, judged_after=2, steps=6)
    judged(watched, weight, [1.0, 1.0, 3.0, 2.0, 2.0])
    assert (watched.state.reference, watched.state.checks_without_improvement) == (2.0, 1)
    assert (watched.state.best, watched.state.best_step, watched.patience_exhausted) == (1.0, 1, False)
    watched.check(6, {"val_kl": 2.5})
    assert watched.patience_exhausted


def test_a_stop_tells_that_the_last_phase_was_judged(tmp_path: Path, one_rank: None) -> None:
    for after, ending in ((2, "in 1 checks of the last phase"), (-1, "in 1 checks")):
        watched, weight = watch(patience=1, judged_after=after)
        judged(watched, weight, [1.0, 1.0, 3.0, 3.0][: 4 if after > 0 else 2])
        watched.finish(4, tmp_path)
        assert json.loads((tmp_path / "kept.json").read_text())["stopped"].endswith(f"0 {ending}")


@pytest.mark.parametrize(("every", "steps"), [(None, []), (5, [0, 5, 10, 12]), (12, [0, 12]), (7, [0, 7, 12])])
def test_evaluations_are_due_first_last_and_between(every: int | None, steps: list[int]) -> None:
    found: list[int] = []
    watched, _ = watch(lambda: {"mmlu": 0.5}, steps=12, evaluate_every=every)
    for step in range(13):
        if watched.check(step, {}) == {"mmlu": 0.5}:
            found.append(step)
    assert found == steps
    assert watched.state.best is None, "it is judged by another metric"


def test_nothing_is_judged_by_what_is_absent() -> None:
    watched, _ = watch()
    assert watched.check(1, {"val_loss": 1.0}) == {}
    assert watched.state == State()


@pytest.mark.parametrize(("keep", "kept", "held"), [("best", 2, 2.0), ("last", 4, 4.0)])
def test_the_kept_weights_become_the_model(
    keep: str, kept: int, held: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    watched, weight = watch(keep=keep, patience=2)
    judged(watched, weight, [3.0, 1.0, 2.0, 2.0])
    watched.finish(4, tmp_path)
    told = json.loads((tmp_path / "kept.json").read_text())
    assert weight.item() == held
    assert (told["keep"], told["step"], told["trained"], told["steps"]) == (keep, kept, 4, 20)
    assert told["tokens"] == kept * 4 * 8
    assert (told["best_by"], told["best_step"], told["best"]) == ("val_kl", 2, 1.0)
    assert told["stopped"] == "val_kl had not improved by more than 0 in 2 checks"


@pytest.mark.parametrize(("patience", "step"), [(None, 4), (2, 20), (3, 4)])
def test_an_end_in_time_is_no_early_one(
    patience: int | None, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    watched, weight = watch(patience=patience)
    assert not watched.patience_exhausted and watched.state.checks_without_improvement == 0
    judged(watched, weight, [3.0, 1.0, 2.0, 2.0])
    watched.finish(step, tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text())["stopped"] is None


def test_other_ranks_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    watch()[0].finish(1, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "older"), [(4, True), (2, False)])
def test_a_checkpoint_holds_the_best_if_older(step: int, older: bool) -> None:
    """Else the weights of the checkpoint are the best."""
    watched, weight = watch(keep="best")
    judged(watched, weight, [3.0, 1.0, *[2.0] * (step - 2)])
    notes, tensors = watched.checkpoint_state(step)
    assert list(tensors) == (["best"] if older else [])
    resumed, other = watch(keep="best")
    other.data.fill_(step)
    read: list[str] = []

    def fill(name: str, tensor_of: Any) -> None:
        read.append(name)
        tensor_of(other).copy_(tensors["best"](weight))

    resumed.resume(step, json.loads(json.dumps(notes)), fill)
    assert read == list(tensors) and resumed.state == watched.state
    assert resumed._best[other].item() == 2.0


def test_without_a_kept_best_none_is_read() -> None:
    watched, weight = watch()
    judged(watched, weight, [3.0, 1.0, 2.0])
    notes, tensors = watched.checkpoint_state(3)
    assert tensors == {}
    resumed, _ = watch()
    resumed.resume(3, notes, lambda *_: pytest.fail("nothing was written"))
    assert resumed._best == {}
    fresh, _ = watch(keep="best")
    fresh.resume(3, {}, lambda *_: pytest.fail("nothing was written"))
    assert fresh._best == {}, "no check was made before"
