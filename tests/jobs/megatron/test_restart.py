"""What a training that diverged tries next, what it leaves behind for that, and what it says in the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conf.stages.teacher import TeacherConfig
from jobs.megatron import restart
from jobs.runtime.exit import Diverged
from tests.fixtures.training import SETTINGS

pytestmark = pytest.mark.usefixtures("one_rank")
ERROR = Diverged("step 3 gave a loss of nan")


def config(times: int | None, **given: Any) -> TeacherConfig:
    retry = {} if times is None else {"retry": {"times": times, "lr_factor": 0.25}}
    return TeacherConfig.model_validate(SETTINGS | retry | given)


def tried(output: Path, *rates: float) -> None:
    """What attempts with these rates left behind."""
    (output / "checkpoints" / "step-00000002").mkdir(parents=True)
    (output / "rewinds.json").write_text("[]")
    lines = [{"step": step, "total": 4, "values": {"train_loss": 2.0}} for step in range(3)]
    (output / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if rates:
        told = [{"lr": rate, "why": "it diverged"} for rate in rates]
        (output / "diverged.json").write_text(json.dumps(told))


@pytest.mark.parametrize(("rates", "factor"), [((), 1), ((1e-2,), 1 / 4), ((1e-2, 2.5e-3), 1 / 16)])
def test_each_attempt_has_smaller_rates(rates: tuple[float, ...], factor: float, tmp_path: Path) -> None:
    """Of phases too."""
    tried(tmp_path, *rates)
    phases = [{"until": 0.5}, {"until": 1, "seq_length": 16, "lr": 4e-3}]
    found = restart.lowered(config(3, phases=phases), tmp_path)
    assert (found.lr, found.min_lr) == pytest.approx((1e-2 * factor, 1e-3 * factor))
    assert [phase.lr for phase in found.phases] == [None, pytest.approx(4e-3 * factor)]


def test_without_retry_rates_stay(tmp_path: Path) -> None:
    found = restart.lowered(config(None), tmp_path)
    assert (found.lr, found.min_lr) == (1e-2, 1e-3)


@pytest.mark.parametrize("before", [(), (4e-2,)])
def test_it_starts_over_from_nothing(before: tuple[float, ...], tmp_path: Path) -> None:
    """As often as the recipe allows, also where a job was killed after it removed something."""
    tried(tmp_path, *before)
    if before:
        (tmp_path / "rewinds.json").unlink()
        (tmp_path / "checkpoints" / "step-00000002").rmdir()
        (tmp_path / "checkpoints").rmdir()
    with pytest.raises(Diverged, match=r"^step 3 gave a loss of nan; training starts over with lr 0\.0025$"):
        restart.start_over(ERROR, config(1 + len(before)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diverged.json", "metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    told = json.loads((tmp_path / "diverged.json").read_text())
    assert [each["lr"] for each in told] == [*before, 1e-2] and told[-1]["why"] == str(ERROR)


@pytest.mark.parametrize(
    ("times", "before", "words"),
    [
        (None, (), r"^step 3 gave a loss of nan$"),
        (1, (4e-2,), r"each learning rate that retry allows \(0\.04, 0\.01\); the last time, step 3 gave"),
    ],
)
def test_it_gives_up_with_all_that_was_tried(
    times: int | None, before: tuple[float, ...], words: str, tmp_path: Path
) -> None:
    tried(tmp_path, *before)
    with pytest.raises(ValueError, match=words) as ended:
        restart.start_over(ERROR, config(times), tmp_path)
    assert not isinstance(ended.value, Diverged) and (tmp_path / "checkpoints" / "step-00000002").is_dir()


def test_only_the_first_rank_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried(tmp_path)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    with pytest.raises(Diverged, match="starts over"):
        restart.start_over(ERROR, config(1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "metrics.jsonl", "rewinds.json"]
