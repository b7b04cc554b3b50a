"""Differences between two models, and the share of the loss from pruning that distillation recovers."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from conf.report.row import Difference
from tasks.analysis.comparisons import answers_of, compare, recovered
from tasks.analysis.statistics import newcombe
from tests.fixtures.report import row

BASE = {("s", index): index < 6 for index in range(10)}
OURS = {("s", index): index in (0, 1, 2, 9, 11) for index in range(2, 12)}


def test_the_score_is_paired_over_common_questions() -> None:
    ours, base = row("small", val_loss=1.5, bytes=500), row("teacher", "teacher")
    found = compare(ours, base, {"small": OURS, "teacher": BASE})
    # Common are 2 to 9: both right on 2, only the base on 3, 4, 5, only ours on 9, neither on 6, 7, 8.
    assert (found.mmlu, *found.mmlu_ci95) == pytest.approx(newcombe((1, 1, 3, 3)))  # type: ignore[misc]
    assert found.mmlu == pytest.approx(2 / 8 - 4 / 8)
    assert found.mmlu_p == pytest.approx(stats.binomtest(1, 4).pvalue)
    assert (found.mmlu_n, found.model) == (8, "teacher")


def test_losses_differ_and_bytes_are_a_ratio() -> None:
    found = compare(row("small", val_loss=1.5, bytes=500), row("teacher", "teacher"), {"small": {}, "teacher": BASE})
    assert (found.val_loss, found.bytes_ratio) == (0.5, 0.25)
    assert found.mmlu is found.mmlu_ci95 is found.mmlu_p is found.mmlu_n is None


def test_losses_are_paired_over_the_first_sequences_of_both() -> None:
    ours, theirs = [1.0, 2.5, 2.0, 4.0], [0.5, 2.0, 2.5, 3.0, 9.0]
    found = compare(row("small"), row("teacher"), {"small": {}, "teacher": {}}, {"small": ours, "teacher": theirs})
    interval = stats.ttest_rel(ours, theirs[:4]).confidence_interval(0.95)
    assert found.val_loss_ci95 == pytest.approx((interval.low, interval.high))


TEACHER = row("teacher", "teacher", val_loss=1.0, mmlu=0.9)
PRUNED = row("small-pruned", "prune", val_loss=2.0, mmlu=0.5)
STUDENT = row("small", val_loss=1.25, mmlu=0.8)


def lost(high: float) -> Difference:
    return Difference(model="teacher", val_loss=1.0, bytes_ratio=1.0, mmlu=-0.4, mmlu_ci95=(-0.5, high))


def test_recovered_shares_of_nats_and_points() -> None:
    found = recovered(STUDENT, PRUNED, TEACHER, lost(-0.3))
    assert (found.nats, found.points) == (pytest.approx(0.75), pytest.approx(0.3 / 0.4))


@pytest.mark.parametrize(("high", "shown"), [(-1e-9, True), (0.0, False), (0.1, False)])
def test_points_are_recovered_from_a_shown_loss_only(high: float, shown: bool) -> None:
    assert (recovered(STUDENT, PRUNED, TEACHER, lost(high)).points is not None) == shown


@pytest.mark.parametrize(("loss", "share"), [(1.0, None), (0.9, None), (1.001, -249.0)])
def test_nats_are_recovered_where_some_were_lost(loss: float, share: float | None) -> None:
    pruned = PRUNED.model_copy(update={"val_loss": loss})
    found = recovered(STUDENT, pruned, TEACHER, lost(-0.3)).nats
    assert found == (None if share is None else pytest.approx(share))


def test_without_a_score_only_nats_are_recovered() -> None:
    unasked = Difference(model="teacher", val_loss=1.0, bytes_ratio=1.0)
    assert recovered(STUDENT, PRUNED, TEACHER, unasked).points is None


def test_answers_are_by_subject_and_number(tmp_path: Path) -> None:
    assert answers_of(str(tmp_path)) == {}
    lines = ['{"subject": "law", "index": 0, "correct": true}', '{"subject": "art", "index": 0, "correct": false}']
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    assert answers_of(str(tmp_path)) == {("law", 0): True, ("art", 0): False}
