"""When a corpus counts as outside the teacher's domain, on both sides of each bound."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from conf.report.row import Difference, Row
from tasks.analysis.domain import outside
from tests.fixtures.report import row


def teacher(folder: Path, loss: float, config: Any) -> Row:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return row("teacher", "teacher", path=str(folder), val_loss=loss)


@pytest.mark.parametrize(("share", "told"), [(0.799, False), (0.801, True), (1.0, True)])
def test_a_teacher_near_guessing_is_outside(share: float, told: bool, tmp_path: Path) -> None:
    found = outside((teacher(tmp_path, share * math.log(1000), {"vocab_size": 1000}),))
    assert (found is not None) == told
    if found:
        assert found.endswith("is near that of guessing among 1,000 tokens (6.908)")


def test_the_bound_itself_is_outside(tmp_path: Path) -> None:
    assert outside((teacher(tmp_path, 0.8 * math.log(512), {"vocab_size": 512}),))


@pytest.mark.parametrize("config", [{"vocab_size": 2}, {"vocab_size": 1}, {"vocab_size": "9"}, {}, [], "{"])
def test_only_a_known_vocabulary_judges(config: Any, tmp_path: Path) -> None:
    assert (outside((teacher(tmp_path, 9.0, config),)) is not None) == (config == {"vocab_size": 2})


@pytest.mark.parametrize(
    ("interval", "changes", "told"),
    [
        ((-0.3, -0.1), {}, True),
        ((-0.3, 0.0), {}, False),
        (None, {}, False),
        ((-0.3, -0.1), {"baseline": "random"}, False),
        ((-0.3, -0.1), {"stage": "distill"}, False),
    ],
)
def test_an_untaught_cut_that_gains_tells(
    interval: tuple[float, float] | None, changes: dict[str, Any], told: bool, tmp_path: Path
) -> None:
    against = Difference(model="teacher", val_loss=-0.2, bytes_ratio=0.5, val_loss_ci95=interval)
    cut = row("cut", **({"stage": "prune", "against_teacher": against} | changes))
    found = outside((teacher(tmp_path, 2.0, {"vocab_size": 1000}), cut))
    assert found == ("cut, a cut that nobody taught, is 0.200 nats better than the teacher" if told else None)


def test_without_a_teacher_nothing_is_said(tmp_path: Path) -> None:
    student = teacher(tmp_path, 9.0, {"vocab_size": 2}).model_copy(update={"stage": "distill"})
    assert outside(()) is None is outside((student,))
