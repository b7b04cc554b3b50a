"""Verdicts of gates against scipy and the published intervals: bounds met exactly, chance, and the items needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.gates import ROUNDING, Gate
from conf.report.gates import Verdict
from tasks.analysis.statistics import bonett_price, newcombe, wilson
from tasks.analysis.verdicts import Scores, format_estimate, judge

Z90 = float(stats.norm.ppf(0.95))


def answered(right: int, n: int = 200) -> Scores:
    """A model whose first `right` answers of `n` are right."""
    return Scores(answers={("s", index): index < right for index in range(n)}, sequences={})


def measured(*values: float, metric: str = "val_loss") -> Scores:
    """A model with values by test sequence."""
    return Scores(answers={}, sequences={metric: list(values)})


def verdict(gate: dict[str, Any], ours: Scores, other: Scores | None = None) -> Verdict:
    settings = {"after": "quantize", "metric": "mmlu"} | gate
    return judge("bound", Gate.model_validate(settings), "small", "small-fp8", ours, other)


SHARE: dict[str, Any] = {"against": "absolute"}
LOSS: dict[str, Any] = {"metric": "val_loss", "against": "absolute"}
DROP: dict[str, Any] = {"against": "before", "by": "difference"}
RATIO: dict[str, Any] = {"against": "before", "by": "ratio"}


def test_a_share_has_wilsons_interval() -> None:
    found = verdict(SHARE | {"at_least": 0.5, "confidence": 0.9}, answered(150))
    expected = stats.binomtest(150, 200).proportion_ci(0.9, method="wilson")
    assert found.measured == 0.75
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n, found.unit, found.p, found.confidence) == (200, "questions", None, 0.9)


@pytest.mark.parametrize(("by", "shift", "scale"), [("difference", 0.25, 1.0), ("ratio", 0.0, 0.25)])
def test_chance_is_a_quarter(by: str, shift: float, scale: float) -> None:
    found = verdict({"against": "chance", "by": by, "at_least": 0.1}, answered(80))
    low, high = stats.binomtest(80, 200).proportion_ci(0.95, method="wilson")
    assert found.measured == pytest.approx((0.4 - shift) / scale)
    assert (found.low, found.high) == pytest.approx(((low - shift) / scale, (high - shift) / scale))


@pytest.mark.parametrize(("right", "expected"), [(80, "passed"), (55, "not shown"), (50, "not shown"), (49, "failed")])
def test_above_chance(right: int, expected: str) -> None:
    assert verdict({"against": "chance", "by": "difference", "at_least": 0}, answered(right)).verdict == expected


def test_a_paired_drop_has_newcombes_interval() -> None:
    found = verdict(DROP | {"at_least": -0.05, "confidence": 0.9}, answered(172), answered(180))
    difference, low, high = newcombe((172, 0, 8, 20), Z90)
    assert (found.measured, found.low, found.high) == pytest.approx((difference, low, high))
    assert found.p == pytest.approx(stats.binomtest(0, 8).pvalue)


def test_a_paired_ratio_has_bonett_and_prices_interval() -> None:
    found = verdict(RATIO | {"at_least": 0.9, "confidence": 0.9}, answered(172), answered(180))
    assert (found.measured, found.low, found.high) == pytest.approx(bonett_price((172, 0, 8, 20), Z90))


def test_only_common_questions_are_paired() -> None:
    found = verdict(DROP | {"at_least": -0.5}, answered(60, 100), answered(80))
    assert (found.n, found.measured) == (100, pytest.approx(-0.2))


@pytest.mark.parametrize(
    ("right", "expected"), [(178, "passed"), (172, "not shown"), (170, "not shown"), (169, "failed"), (150, "failed")]
)
def test_three_verdicts_on_a_drop(right: int, expected: str) -> None:
    assert verdict(DROP | {"at_least": -0.05}, answered(right), answered(180)).verdict == expected


@pytest.mark.parametrize(("right", "expected"), [(172, "passed"), (170, "passed"), (169, "failed")])
def test_without_confidence_the_estimate_decides(right: int, expected: str) -> None:
    found = verdict(DROP | {"at_least": -0.05, "confidence": "none"}, answered(right), answered(180))
    assert (found.verdict, found.confidence, found.needs) == (expected, None, None)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "passed"), (0.9, "passed"), (2.0, "failed")])
def test_a_bound_met_exactly_holds(shift: float, expected: str) -> None:
    at_most = verdict(LOSS | {"at_most": 2.0, "confidence": "none"}, measured(2.0 + shift * ROUNDING))
    assert at_most.verdict == expected
    agreement = {"metric": "agreement_teacher", "against": "absolute", "at_least": 0.5, "confidence": "none"}
    assert verdict(agreement, measured(0.5 - shift * ROUNDING, metric="agreement_teacher")).verdict == expected


def test_an_interval_that_ends_at_the_bound_passes() -> None:
    end = wilson(150, 200)[0]
    assert verdict(SHARE | {"at_least": end}, answered(150)).verdict == "passed"
    assert verdict(SHARE | {"at_least": end + 1e-9}, answered(150)).verdict == "not shown"


RNG = np.random.default_rng(2)
BASE = RNG.normal(3, 1, 40)
OURS = BASE * 1.02 + RNG.normal(0, 0.01, 40)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_a_mean_has_students_interval(confidence: float) -> None:
    found = verdict(LOSS | {"at_most": 9.0, "confidence": confidence}, measured(*OURS))
    expected = stats.ttest_1samp(OURS, 0).confidence_interval(confidence)
    assert found.measured == pytest.approx(OURS.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert (found.n, found.unit) == (40, "sequences")


def test_without_confidence_the_interval_is_of_95_percent() -> None:
    low, high = stats.ttest_1samp(OURS, 0).confidence_interval(0.95)
    mean = verdict(LOSS | {"at_most": 9.0, "confidence": "none"}, measured(*OURS))
    assert (mean.low, mean.high) == pytest.approx((low, high))
    share = verdict(SHARE | {"at_least": 0.5, "confidence": "none"}, answered(150))
    assert (share.low, share.high) == pytest.approx(wilson(150, 200))


def test_a_paired_difference_has_students_interval() -> None:
    gate = {"metric": "val_loss", "by": "difference", "at_most": 0.5}
    found = verdict(gate, measured(*OURS), measured(*BASE))
    expected = stats.ttest_rel(OURS, BASE).confidence_interval(0.95)
    assert found.measured == pytest.approx((OURS - BASE).mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_a_ratio_of_losses_has_the_linearized_interval() -> None:
    found = verdict({"metric": "val_loss", "by": "ratio", "at_most": 1.03}, measured(*OURS), measured(*BASE))
    ratio = OURS.mean() / BASE.mean()
    half = stats.t.ppf(0.975, 39) * stats.sem(OURS - ratio * BASE) / BASE.mean()
    assert (found.measured, found.low, found.high) == pytest.approx((ratio, ratio - half, ratio + half))


def test_a_ratio_of_perplexities_is_an_exponent() -> None:
    found = verdict({"metric": "perplexity", "by": "ratio", "at_most": 2}, measured(*OURS), measured(*BASE))
    low, high = stats.ttest_rel(OURS, BASE).confidence_interval(0.95)
    expected = [math.exp(value) for value in ((OURS - BASE).mean(), low, high)]
    assert [found.measured, found.low, found.high] == pytest.approx(expected)


def test_one_sequence_has_no_interval() -> None:
    found = verdict(LOSS | {"at_most": 2.5}, measured(2.0))
    assert (found.verdict, found.low, found.high, found.needs) == ("not shown", None, None, None)
    assert "measured 2 (95%: no interval), n = 1 sequences" in found.sentence


def test_two_sequences_have_an_interval() -> None:
    found = verdict(LOSS | {"at_most": 2.5}, measured(2.0, 2.1))
    assert found.low is not None and found.high is not None


@pytest.mark.parametrize("right", [165, 172, 175])
def test_the_items_needed_are_enough_and_few(right: int) -> None:
    found = verdict(DROP | {"at_least": -0.08}, answered(right), answered(180))
    table = np.array([right, 0, 180 - right, 20], dtype=float) / 200
    if found.verdict == "passed":
        assert found.needs is None
        return
    assert found.needs is not None
    assert newcombe(tuple(table * found.needs))[1] >= -0.08 - 1e-9
    assert newcombe(tuple(table * found.needs / 1.15))[1] < -0.08


def test_a_few_more_items_are_told_as_few() -> None:
    found = verdict(SHARE | {"at_least": wilson(150, 200)[0] + 0.005}, answered(150))
    assert found.needs is not None and 200 < found.needs < 300


def test_far_more_items_are_still_told() -> None:
    found = verdict(SHARE | {"at_least": 0.5 - 0.002}, answered(100))
    assert found.needs is not None and 200_000 < found.needs < 260_000


def test_no_number_shows_a_bound_at_the_estimate() -> None:
    found = verdict(SHARE | {"at_least": 0.5}, answered(100))
    assert (found.verdict, found.needs) == ("not shown", None)
    assert found.sentence.endswith("; no number of questions would show it if the estimate stays the same")


def test_sequences_needed_follow_students_t() -> None:
    found = verdict(LOSS | {"at_most": 3.2}, measured(*OURS))
    spread, mean = OURS.std(ddof=1), OURS.mean()
    assert found.verdict == "not shown" and found.needs is not None

    def reach(n: float) -> float:
        return float(mean + stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n))

    assert reach(found.needs) <= 3.2 < reach(found.needs / 1.15)


def test_a_passed_sentence_has_all_numbers() -> None:
    found = verdict(SHARE | {"at_least": 0.5}, answered(150))
    assert found.sentence == (
        f"gate bound: small-fp8 meets mmlu at least 0.5; measured 0.75 (95%: {found.low:.4g} to {found.high:.4g}),"
        " n = 200 questions"
    )


def test_a_failed_sentence_says_when_more_would_help() -> None:
    near = verdict(DROP | {"at_least": -0.05}, answered(169), answered(180)).sentence
    assert "small-fp8 does not meet mmlu minus its value before the stage at least -0.05; measured -0.055" in near
    assert near.endswith("; the interval includes the bound, so more questions could change the verdict")
    far = verdict(DROP | {"at_least": -0.05}, answered(150), answered(180)).sentence
    assert far.endswith("n = 200 questions")
    sure = verdict(DROP | {"at_least": -0.05, "confidence": "none"}, answered(169), answered(180)).sentence
    assert sure.endswith("measured -0.055, n = 200 questions")


def test_an_upper_bound_is_compared_with_the_upper_end() -> None:
    values = (1.9, 2.0, 2.1)
    high = stats.ttest_1samp(values, 0).confidence_interval(0.95).high
    assert verdict(LOSS | {"at_most": high + 1e-6}, measured(*values)).verdict == "passed"
    assert verdict(LOSS | {"at_most": high - 1e-6}, measured(*values)).verdict == "not shown"
    failed = verdict(LOSS | {"at_most": 1.99}, measured(*values)).sentence
    assert "could change the verdict" in failed, "the lower end is below the bound"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((None, 0.123456, 0.1, 0.2), "0.1235"),
        ((0.95, 0.123456, 0.1, 0.2), "0.1235 (95%: 0.1 to 0.2)"),
        ((0.999, 1.5, None, 0.2), "1.5 (99.9%: no interval)"),
        ((0.95, 1.5, 0.2, None), "1.5 (95%: no interval)"),
    ],
)
def test_an_estimate_is_printed_with_its_interval(estimate: Any, text: str) -> None:
    assert format_estimate(*estimate) == text


def test_scores_are_read_from_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "sequences.json").write_text(json.dumps({"val_loss": [1.0, 2.0]}))
    assert Scores.read(str(tmp_path)) == Scores(answers={}, sequences={"val_loss": [1.0, 2.0]})
    (tmp_path / "items.jsonl").write_text('{"subject": "law", "index": 3, "correct": 1}\n')
    assert Scores.read(str(tmp_path)).answers == {("law", 3): True}


def judged(folder: Path, right: int, n: int, chance: float) -> Scores:
    """A model's judged answers to a benchmark, as its judge stage writes them."""
    folder.mkdir()
    lines = [{"subject": "arc_easy", "index": index, "sample": 0, "correct": index < right} for index in range(n)]
    again = [{"subject": "arc_easy", "index": index, "sample": 1, "correct": True} for index in range(n)]
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines + again))
    (folder / "benchmark.json").write_text(json.dumps({"chance": chance}))
    return Scores.read(str(folder))


def test_a_benchmark_is_judged_by_its_own_questions(tmp_path: Path) -> None:
    ours, other = judged(tmp_path / "a", 80, 200, 0.3), judged(tmp_path / "b", 90, 200, 0.3)
    found = verdict({"metric": "arc_easy", "against": "before", "by": "difference", "at_least": -0.5}, ours, other)
    assert (found.n, found.unit, found.measured) == (200, "questions", pytest.approx(-0.05))
    above = verdict({"metric": "arc_easy", "against": "chance", "by": "difference", "at_least": 0.0}, ours)
    assert above.measured == pytest.approx(0.1), "the chance of these very questions"
    twice = verdict({"metric": "arc_easy", "against": "chance", "by": "ratio", "at_least": 1.0}, ours)
    assert twice.measured == pytest.approx(4 / 3)
