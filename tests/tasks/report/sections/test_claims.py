"""The section on claims: verdicts from paired intervals, and their table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.load import load
from conf.report.claims import ClaimVerdict
from tasks.analysis.crossed import crossed_interval
from tasks.analysis.statistics import newcombe
from tasks.report.sections.claims import decide, interval_verdict, section
from tests.fixtures.report import row

LOSSES = {"depth": [1.0, 2.0, 3.1, 4.0], "width": [1.2, 2.3, 3.2, 4.3]}
RIGHT = {"depth": 160, "width": 150}


def decided(folder: Path, claim: str, **fields: Any) -> ClaimVerdict:
    """A claim on depth and width, whose scores are LOSSES and RIGHT; `fields` are of depth's row."""
    rows = []
    for model, losses in LOSSES.items():
        (folder / model).mkdir()
        (folder / model / "sequences.json").write_text(json.dumps({"val_loss": losses, "kl_teacher": losses}))
        items = [json.dumps({"subject": "s", "index": index, "correct": index < RIGHT[model]}) for index in range(200)]
        (folder / model / "items.jsonl").write_text("\n".join(items))
        values: dict[str, Any] = {"val_loss": sum(losses) / 4, "kl_teacher": 0.1, "mmlu": RIGHT[model] / 200}
        values |= {"bytes": 2000, "tokens_per_second": 10.0} | (fields if model == "depth" else {})
        rows.append(row(model, **values))
    recipe = load("demo", [f"claims={{a: {claim}}}"])
    (verdict,) = decide(recipe, tuple(rows), {model: str(folder / model) for model in LOSSES})
    return verdict


@pytest.mark.parametrize("metric", ["val_loss", "kl_teacher"])
def test_losses_have_students_paired_interval(metric: str, tmp_path: Path) -> None:
    found = decided(tmp_path, f"{{model: depth, than: width, by: {metric}}}")
    test = stats.ttest_rel(LOSSES["depth"], LOSSES["width"])
    low, high = test.confidence_interval(0.95)
    assert found.difference == pytest.approx(-0.225)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 4)
    assert found.verdict == "holds"


def test_the_opposite_claim_is_refuted(tmp_path: Path) -> None:
    found = decided(tmp_path, "{model: width, than: depth}")
    assert (found.verdict, found.difference) == ("refuted", pytest.approx(0.225))


def test_scores_have_newcombes_interval(tmp_path: Path) -> None:
    found = decided(tmp_path, "{model: depth, than: width, by: mmlu}")
    assert (found.difference, found.low, found.high) == pytest.approx(newcombe((150, 10, 0, 40)))
    assert (found.n, found.verdict, found.model_value, found.than_value) == (200, "holds", 0.8, 0.75)


def test_a_benchmark_has_newcombes_interval(tmp_path: Path) -> None:
    recipe = load("demo", ["claims={a: {model: depth, than: width, by: gsm8k}}", "evaluate.benchmarks={gsm8k: {}}"])
    judged = {model: {"gsm8k": str(tmp_path / model)} for model in RIGHT}
    for model, right in RIGHT.items():
        (tmp_path / model).mkdir()
        items = [{"id": str(number), "sample": 0, "correct": number < right} for number in range(200)]
        (tmp_path / model / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    rows = tuple(row(model) for model in RIGHT)
    (found,) = decide(recipe, rows, {}, judged)
    assert (found.difference, found.low, found.high) == pytest.approx(newcombe((150, 10, 0, 40)))
    assert (found.n, found.verdict, found.model_value, found.than_value) == (200, "holds", 0.8, 0.75)
    shown = section((found,))
    assert (
        shown
        and found.low
        and found.high
        and shown.rows[0][4:6] == ("+5 points", f"{100 * found.low:+.3g} to {100 * found.high:+.3g}")
    )


@pytest.mark.parametrize(("size", "verdict"), [(1999, "holds"), (2000, "refuted"), (2001, "refuted")])
def test_fewer_bytes_hold(size: int, verdict: str, tmp_path: Path) -> None:
    found = decided(tmp_path, "{model: depth, than: width, by: bytes}", bytes=size)
    assert (found.verdict, found.difference, found.low) == (verdict, size - 2000, None)


@pytest.mark.parametrize(("speed", "verdict"), [(10.1, "holds, timed once"), (10.0, "refuted, timed once")])
def test_speeds_are_timed_once(speed: float, verdict: str, tmp_path: Path) -> None:
    found = decided(tmp_path, "{model: depth, than: width, by: tokens_per_second}", tokens_per_second=speed)
    assert found.verdict == verdict


def test_what_is_not_measured_is_not_shown(tmp_path: Path) -> None:
    found = decided(tmp_path, "{model: depth, than: width, by: mmlu}", mmlu=None)
    assert (found.verdict, found.difference, found.model_value) == ("not shown", None, None)


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (0.1, 0.2, "holds"),
        (0.2, 0.1, "holds"),
        (-0.2, -0.1, "refuted"),
        (0.0, 0.1, "not shown"),
        (-0.1, 0.0, "not shown"),
        (-0.1, 0.1, "not shown"),
    ],
)
def test_a_verdict_needs_the_whole_interval(one: float, other: float, verdict: str) -> None:
    assert interval_verdict(one, other) == verdict


def test_a_claim_on_a_model_not_built_is_left_out(tmp_path: Path) -> None:
    recipe = load("demo", ["claims={a: {model: depth, than: width}}"])
    assert decide(recipe, (row("depth"),), {}) == ()


def claim(by: str, verdict: str = "holds", **fields: Any) -> ClaimVerdict:
    texts: dict[str, Any] = {"claim": "c", "by": by, "model": "a", "than": "b", "model_value": 1.0, "than_value": 2.0}
    return ClaimVerdict.model_validate(texts | {"verdict": verdict} | fields)


@pytest.mark.parametrize(
    ("by", "difference", "cells"),
    [
        ("val_loss", -0.2251, ("-0.225 nats", "-0.226 to -0.224", "4")),
        ("mmlu", 0.05, ("+5 points", "+4.9 to +5.1", "4")),
        ("bytes", -2_500_000.0, ("-2.5 MB", "-2.5 to -2.5", "4")),
        ("tokens_per_second", 12.0, ("+12 tokens/s", "+12 to +12", "4")),
    ],
)
def test_a_row_prints_its_unit(by: str, difference: float, cells: tuple[str, ...]) -> None:
    low, high = difference - 0.001, difference + 0.001
    text = section((claim(by, difference=difference, low=low, high=high, n=4),))
    assert text and text.rows[0] == ("c", by, "a", "b", *cells, "holds")


def test_a_row_without_numbers_has_dashes() -> None:
    text = section((claim("mmlu", "not shown", low=0.1),))
    assert text and text.rows[0][4:] == ("-", "-", "-", "not shown")


def test_the_sentence_counts_verdicts() -> None:
    verdicts = ("holds", "holds, timed once", "refuted", "refuted, timed once", "refuted", "not shown")
    text = section(tuple(claim("mmlu", verdict) for verdict in verdicts))
    assert text and text.sentences == ("6 claims: 2 hold, 3 refuted, 1 not shown either way.",)
    assert section(()) is None


SEEDED = {
    "depth": [1.0, 2.0, 3.1, 4.0],
    "depth-s2": [1.1, 2.1, 3.1, 4.1],
    "width": [1.2, 2.3, 3.2, 4.3],
    "width-s2": [1.1, 2.4, 3.2, 4.4],
}


def over_seeds(folder: Path, claim: str, *seeds: str) -> ClaimVerdict:
    """A claim on students of the demo with these seeds, whose losses are SEEDED."""
    rows = []
    for model, losses in SEEDED.items():
        (folder / model).mkdir()
        (folder / model / "sequences.json").write_text(json.dumps({"val_loss": losses}))
        rows.append(row(model, student=model, val_loss=sum(losses) / 4))
    recipe = load("demo", [f"claims={{a: {claim}}}", *seeds])
    (verdict,) = decide(recipe, tuple(rows), {model: str(folder / model) for model in SEEDED})
    return verdict


def test_with_seeds_the_interval_holds_seeds_and_sequences(tmp_path: Path) -> None:
    both = ("students.depth.seeds=2", "students.width.seeds=2")
    found = over_seeds(tmp_path, "{model: depth, than: width}", *both)
    one, other = (np.array([SEEDED[name], SEEDED[f"{name}-s2"]]) for name in ("depth", "width"))
    difference, low, high = crossed_interval(one - other)
    assert (found.difference, found.low, found.high) == pytest.approx((difference, low, high))
    assert (found.seeds, found.n) == (2, 4)
    assert (found.model_value, found.than_value) == pytest.approx((one.mean(), other.mean()))
    (cells,) = section((found,)).rows  # type: ignore[union-attr]
    assert cells[-2] == "4 x 2 seeds"


def test_a_model_of_one_seed_is_compared_with_each_seed(tmp_path: Path) -> None:
    found = over_seeds(tmp_path, "{model: depth, than: width}", "students.depth.seeds=2")
    ours = np.array([SEEDED["depth"], SEEDED["depth-s2"]])
    assert found.difference == pytest.approx(float((ours - np.array(SEEDED["width"])).mean()))
    assert found.seeds == 2
