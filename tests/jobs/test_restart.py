"""Training that diverges starts over with a smaller learning rate, as often as the recipe allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.megatron.restart import DIVERGED
from tests.fixtures.jobs import SHAPE, TRAINING, executed, ranks, refused, run_job
from tests.fixtures.weights import same, tensors

pytestmark = pytest.mark.slow
STEPS = 6
GOOD: dict[str, Any] = TRAINING | {"shape": SHAPE, "steps": STEPS, "validate_every": STEPS, "checkpoint_every": 1}
FACTOR = 2.0**-80
BAD = GOOD | {"lr": GOOD["lr"] / FACTOR, "min_lr": GOOD["min_lr"] / FACTOR}
RETRY = {"retry": {"times": 1, "lr_factor": FACTOR}}
"""The second attempt has the rates of `GOOD`, to the bit."""


def test_it_ends_as_if_it_had_begun_with_the_smaller_rate(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "again"
    assert executed("teacher", BAD | RETRY, {"data": corpus}, output) == 78
    assert "training starts over with lr 0.006" in capfd.readouterr().err
    assert json.loads((output / "ended.json").read_text())["reason"] == "diverged"
    assert not list((output / "checkpoints").glob("step-*"))
    (output / "ended.json").unlink()
    run_job("teacher", BAD | RETRY, {"data": corpus}, output)
    calm = run_job("teacher", GOOD, {"data": corpus}, tmp_path / "calm")
    assert same(tensors(output / "model"), tensors(calm / "model"))
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    (tried,) = json.loads((output / DIVERGED).read_text())
    assert tried["lr"] == BAD["lr"] and tried["why"].startswith("step ")


@pytest.mark.drill
def test_what_was_tried_is_told_in_the_end(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    twice = BAD | {"retry": {"times": 1, "lr_factor": 0.5}}
    output = tmp_path / "twice"
    assert executed("teacher", twice, {"data": corpus}, output) == 78
    (output / "ended.json").unlink()
    capfd.readouterr()
    sentence = refused("teacher", twice, {"data": corpus}, output, capfd)
    rates = f"({BAD['lr']:g}, {BAD['lr'] / 2:g})"
    assert f"training diverged with each learning rate that retry allows {rates}; the last time, step" in sentence


def test_without_retry_it_fails_at_once(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sentence = refused("teacher", BAD, {"data": corpus}, tmp_path / "once", capfd)
    assert "lower lr" in sentence and "retry" not in sentence
    assert not (tmp_path / "once" / DIVERGED).exists()


def test_ranks_start_over_together(corpus: Path, tmp_path: Path) -> None:
    shared = {"parallel": {"processes": 2}}
    output = tmp_path / "ranks"
    with pytest.raises(AssertionError, match="exited with 78"):
        ranks("teacher", BAD | RETRY | shared, {"data": corpus}, output, 2)
    assert len(json.loads((output / DIVERGED).read_text())) == 1
    (output / "ended.json").unlink()
    ranks("teacher", BAD | RETRY | shared, {"data": corpus}, output, 2)
    calm = ranks("teacher", GOOD | shared, {"data": corpus}, tmp_path / "calm", 2)
    assert same(tensors(output / "model"), tensors(calm / "model"))
