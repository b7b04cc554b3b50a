"""Checkpoints of a tiny training: which one a run goes on from, and one that cannot be written."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.stages.teacher import TeacherConfig
from jobs.megatron import checkpoint, pieces, training
from jobs.megatron.checkpoint import Saver
from jobs.megatron.optimizer import states
from tests.fixtures.training import OBJECTIVE, SETTINGS, SPLITS, made

pytestmark = pytest.mark.usefixtures("one_rank", "nothing_beside")


def begun() -> tuple[Any, Any, dict[str, Any]]:
    """A model, its optimizer after one step, and its config."""
    model, hf_config = made()
    run = training._Run(model, TeacherConfig.model_validate(SETTINGS), OBJECTIVE, *SPLITS)
    run.step(0)
    return model, run.optimizer, hf_config


def test_a_run_goes_on_from_its_own_checkpoint_first(tmp_path: Path) -> None:
    """Else from the one that it begins with."""
    model, optimizer, hf_config = begun()
    own, start, none = (tmp_path / name for name in ("own", "start", "none"))
    for folder, step in ((own, 3), (start, 5)):
        with Saver(folder, 1) as saver:
            saver.save(step, model, optimizer, hf_config)
            saver.wait()
    trained = [weight.detach().clone() for weight in model.parameters()]
    for folder, given, step in ((own, start, 3), (none, start, 5), (none, None, 0)):
        other, other_optimizer, _ = begun()
        with torch.no_grad():
            for weight in other.parameters():
                weight.zero_()
        assert checkpoint.resume(folder, other, other_optimizer, hf_config, start=given) == step
        read = all(torch.equal(*pair) for pair in zip(other.parameters(), trained, strict=True))
        assert read is (step > 0)
        if step:  # Adam corrects its moments by the updates that they have seen
            assert {float(state["step"]) for state in states(other_optimizer).values()} == {step}


def test_a_failed_write_is_told_once_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on while it is under way; nothing of it stays."""
    go_on = threading.Event()

    def write(*_: Any) -> None:
        assert go_on.wait(20)
        raise OSError("the disk is full")

    monkeypatch.setattr(pieces, "write", write)
    model, optimizer, hf_config = begun()
    with Saver(tmp_path, 1) as saver:
        saver.save(1, model, optimizer, hf_config)
        threading.Timer(0.05, go_on.set).start()
        saver.raise_errors()
        assert not go_on.is_set(), "it does not wait"
        with pytest.raises(OSError, match="the disk is full"):
            saver.wait()
        with pytest.raises(OSError, match="the disk is full"):
            saver.raise_errors()
            saver.save(2, model, optimizer, hf_config)
    assert list(tmp_path.iterdir()) == []
