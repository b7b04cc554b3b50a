"""Claims: the report decides them by paired intervals that scipy gives too, and those that no run could decide are
refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.analysis.crossed import crossed_interval
from tasks.analysis.statistics import mean_interval
from tests.fixtures.flow import RECIPE, imbik, report_of, told


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40))
def test_the_interval_of_a_mean_is_student_s(parts: list[float]) -> None:
    from scipy import stats

    mean, low, high = mean_interval(parts)
    spread = stats.sem(parts)
    if spread > 1e-9:
        expected = stats.t.interval(0.95, len(parts) - 1, loc=sum(parts) / len(parts), scale=spread)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert low <= mean <= high


@pytest.mark.parametrize(
    ("claim", "parts"),
    [
        ("{model: deep, than: depth}", ("claims.a.model is deep", "does not produce", "depth-pruned")),
        ("{model: depth, than: depth-nvfp9}", ("claims.a.than is depth-nvfp9", "choose one of teacher")),
        ("{model: depth, than: depth}", ("claims.a compares depth with itself", "choose another model")),
        ("{model: depth, than: width, by: speed}", ("claims.a.by", "speed")),
    ],
)
def test_what_cannot_be_decided_is_refused(claim: str, parts: tuple[str, ...]) -> None:
    sentence = told(f"claims={{a: {claim}}}")
    assert all(part in sentence for part in parts), sentence


def test_what_is_not_measured_decides_nothing() -> None:
    assert "evaluate.mmlu is null" in told("evaluate.mmlu=null", "claims={a: {model: depth, than: width, by: mmlu}}")
    assert "evaluate.new_tokens is 0" in told(
        "evaluate.new_tokens=0", "claims={a: {model: depth, than: width, by: tokens_per_second}}"
    )


@pytest.mark.slow
def test_claims_are_decided_from_sealed_scores(finished: Path, tmp_path: Path) -> None:
    from scipy import stats

    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    claims = {
        "taught": "{says: teaching helps, model: depth, than: depth-pruned}",
        "backwards": "{model: depth-pruned, than: depth, by: kl_teacher}",
        "smaller": "{model: depth-nvfp4, than: depth-fp8, by: bytes}",
        "questions": "{model: depth, than: width, by: mmlu}",
        "untimed": "{model: depth-fp8, than: depth, by: tokens_per_second}",
    }
    value = ", ".join(f"{name}: {claim}" for name, claim in claims.items())
    done = imbik("run", str(RECIPE), f"claims={{{value}}}", "--name", "claimed", store=store)
    assert done.returncode == 0, done.stderr
    decided = dict(zip(claims, report_of(store, "claimed")["claims"], strict=True))
    assert decided["taught"]["verdict"] == "holds"
    assert decided["backwards"]["verdict"] == "refuted"
    assert decided["smaller"]["verdict"] == "holds"
    assert decided["untimed"]["verdict"] == "not shown", "a simulated model has no speed"
    rows = {row["model"]: row for row in report_of(store, "claimed")["rows"]}
    assert decided["questions"]["difference"] == pytest.approx(rows["depth"]["mmlu"] - rows["width"]["mmlu"])
    ours, theirs = (
        json.loads((store / "runs" / "tiny" / f"evaluate-{name}" / "sequences.json").read_text())
        for name in ("depth", "depth-pruned")
    )
    expected = stats.ttest_rel(ours["val_loss"], theirs["val_loss"]).confidence_interval(0.95)
    assert (decided["taught"]["low"], decided["taught"]["high"]) == pytest.approx((expected.low, expected.high))
    page = (store / "runs" / "claimed" / "report.md").read_text()
    assert "## Claims" in page and "teaching helps" in page


@pytest.mark.drill
def test_a_claim_holds_over_seeds_too(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    changes = ["students.depth={seeds: 3, quantize: false}", "students.width={seeds: 3, quantize: false}"]
    changes += ["evaluate.mmlu=null", "evaluate.new_tokens=0", "claims={a: {model: depth, than: width}}"]
    done = imbik("run", str(RECIPE), *changes, "--name", "seeds", store=store)
    assert done.returncode == 0, done.stderr
    report = report_of(store, "seeds")
    (claim,) = report["claims"]
    losses = {
        name: json.loads((store / "runs" / "seeds" / f"evaluate-{name}" / "sequences.json").read_text())["val_loss"]
        for student in ("depth", "width")
        for name in (student, f"{student}-s2", f"{student}-s3")
    }
    assert len({tuple(each) for each in losses.values()}) == 6, "each seed teaches another student"
    ends = ("", "-s2", "-s3")
    table = np.array([np.subtract(losses[f"depth{end}"], losses[f"width{end}"]) for end in ends])
    difference, low, high = crossed_interval(table)
    assert (claim["difference"], claim["low"], claim["high"]) == pytest.approx((difference, low, high))
    assert (claim["seeds"], claim["n"]) == (3, table.shape[1])
    assert report["winner"]["model"] in ("depth", "width"), "the best seed is the luckiest"
