"""What gpt_train prints and leaves: steps are counted from 1, unfinished checkpoints are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs.nemo import progress
from jobs.nemo.progress import checkpoints, parse_progress, validations


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (
            "Training epoch 0, iteration 4/9 | lr: 1e-05 | global_step: 4 | reduced_train_loss: 1.6 | grad_norm: nan?",
            (5, {"lr": 1e-05, "train_loss": 1.6}),
        ),
        ("  Training epoch 1, iteration 0/9 | train_step_timing in s: 0.25\n", (1, {"seconds_per_step": 0.25})),
        ("Validation: iteration 4/9 | lr: 1", None),
        ("said: Training epoch 0, iteration 4/9 | lr: 1", None),
    ],
)
def test_a_line_of_progress(line: str, parsed: tuple[int, dict[str, float]] | None) -> None:
    assert parse_progress(line) == parsed


def checkpoint(folder: Path, step: int, loss: str, *, last: bool = False, lacks: str = "") -> None:
    """A checkpoint after `step` finished steps, as NeMo numbers it."""
    name = f"x--val_loss={loss}-step={step - 1}-consumed_samples=8.0{'-last' if last else ''}"
    for part in {"weights", "context"} - {lacks}:
        (folder / name / part).mkdir(parents=True)
    if lacks == "end":
        (folder / f"{name}-unfinished").touch()


def test_the_last_or_the_best_checkpoint_is_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2, "2.50")
    checkpoint(tmp_path, 4, "1.50")
    checkpoint(tmp_path, 5, "1.50")
    checkpoint(tmp_path, 6, "nan")
    checkpoint(tmp_path, 8, "3.00", last=True)
    checkpoint(tmp_path, 6, "2.00", last=True)
    best, last = checkpoints(tmp_path, best=True), checkpoints(tmp_path, best=False)
    assert (best.step, best.loss) == (4, 1.5), "of equal losses the earlier"
    assert (last.step, last.loss, last.path.name[-5:]) == (8, 3.0, "-last")


@pytest.mark.parametrize("lacks", ["weights", "context", "end"])
def test_an_unfinished_checkpoint_is_left_out(lacks: str, tmp_path: Path) -> None:
    checkpoint(tmp_path, 8, "1.00", last=True, lacks=lacks)
    for best in (True, False):
        with pytest.raises(RuntimeError, match="gpt_train left no complete checkpoint in"):
            checkpoints(tmp_path, best=best)
    checkpoint(tmp_path, 2, "inf", last=True)
    (tmp_path / "notes").mkdir()
    assert checkpoints(tmp_path, best=True).step == checkpoints(tmp_path, best=False).step == 2


def test_validations_are_read_by_nemos_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "events.py"
    events.write_text(
        f"import sys\nassert sys.argv[1:] == [{str(tmp_path)!r}, 'val_loss']\nprint('[[1, 3.5], [3, 2]]')"
    )
    monkeypatch.setattr(progress, "EVENTS", events)
    assert validations(sys.executable, tmp_path) == [(2, 3.5), (4, 2.0)]
    events.write_text("import sys\nsys.exit('no TensorBoard')")
    with pytest.raises(RuntimeError, match="cannot be read: no TensorBoard"):
        validations(sys.executable, tmp_path)
