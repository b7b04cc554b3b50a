"""Gates: what can never hold is refused, what is measured is judged with its doubt, and a closed gate stops its branch
and no other."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.checks.gates import needed_questions
from conf.gates import Gate
from conf.load import load
from tasks.analysis.statistics import Z95, bonett_price, newcombe, wilson
from tasks.analysis.verdicts import Scores, judge
from tests.fixtures.flow import RECIPE, imbik, report_of, told

RATIO = {"after": "distill", "metric": "mmlu", "by": "ratio", "at_least": 0.5}
WRONG = {
    "above what any student reaches": (
        RATIO | {"at_least": 1.6},
        ("mmlu at least 1.6 x the teacher's can never hold", "0 to 1.5"),
    ),
    "below what any student loses": (
        {"after": "prune", "metric": "val_loss", "by": "ratio", "at_most": 0.4},
        ("val_loss at most 0.4 x the teacher's can never hold", "above 0.5"),
    ),
    "a share above one": (
        RATIO | {"against": "absolute", "by": None, "at_least": 1.2},
        ("mmlu at least 1.2 can never hold", "0 to 1"),
    ),
    "always": (RATIO | {"by": "difference", "at_least": -1.5}, ("always holds", "-1 to 1")),
    "perplexity below one": (
        {"after": "prune", "metric": "perplexity", "against": "absolute", "at_most": 0.5},
        ("perplexity at most 0.5 can never hold", "above 1"),
    ),
    "two bounds": (RATIO | {"at_most": 2.0}, ("exactly one of at_least and at_most",)),
    "no bound": ({"after": "prune", "metric": "mmlu", "by": "ratio"}, ("exactly one of at_least and at_most",)),
    "the wrong side": (
        {"after": "prune", "metric": "val_loss", "by": "ratio", "at_least": 1.1},
        ("val_loss is better when lower: use at_most 1.1 instead of at_least",),
    ),
    "compared with nothing": (RATIO | {"against": "absolute"}, ("against: absolute has no baseline",)),
    "not said how": (RATIO | {"by": None}, ("set by: ratio or difference",)),
    "the teacher's distance from itself": (
        {"after": "distill", "metric": "kl_teacher", "by": "ratio", "at_most": 1.2},
        ("already compares with the teacher; set against: absolute or before",),
    ),
    "before the first stage": (
        RATIO | {"after": "prune", "against": "before"},
        ("is the teacher; set against: teacher",),
    ),
    "chance of a loss": (
        {"after": "prune", "metric": "val_loss", "against": "chance", "by": "ratio", "at_most": 1.0},
        ("against chance, which only mmlu and benchmarks with options have",),
    ),
    "another stage": (RATIO | {"after": "sleep"}, ("gates.bound.after is 'sleep'",)),
    "another metric": (RATIO | {"metric": "arc"}, ("gates.bound.metric is 'arc'",)),
    "too sure": (RATIO | {"confidence": 1.0}, ("gates.bound.confidence is 1.0", "below 1")),
    "too few questions for the difference": (
        RATIO | {"after": "quantize", "against": "before", "by": "difference", "at_least": -0.01},
        ("cannot pass with 60 questions", "about 390 questions are enough", "confidence: none"),
    ),
    "too few questions for the share": (
        RATIO | {"against": "absolute", "by": None, "at_least": 0.97},
        ("cannot pass with 60 questions", "about 130 questions are enough"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_gate_that_cannot_work_is_refused(case: str) -> None:
    gate, parts = WRONG[case]
    sentence = told(f"gates.bound={json.dumps(gate)}")
    assert "gates.bound" in sentence
    assert all(part in sentence for part in parts), sentence


def test_gate_needs_stage_metric_and_two_sequences() -> None:
    gate = f"gates.bound={json.dumps(RATIO)}"
    assert "a stage that no student has" in told(gate, "distill=null")
    assert "metric is mmlu but evaluate.mmlu is null" in told(gate, "evaluate.mmlu=null")
    own = f"students.width.gates.bound={json.dumps(RATIO | {'after': 'quantize'})}"
    assert "a stage that width does not have; remove the gate" in told(own, "students.width.quantize=false")
    loss = {"after": "distill", "metric": "val_loss", "by": "ratio", "at_most": 1.1}
    assert "gives no interval" in told(f"gates.bound={json.dumps(loss)}", "evaluate.sequences=1")
    load(str(RECIPE), [f"gates.bound={json.dumps(loss | {'confidence': 'none'})}", "evaluate.sequences=1"])


def test_student_gate_overrides_recipe_gate() -> None:
    own = json.dumps(RATIO | {"at_least": 0.7})
    recipe = load(
        str(RECIPE),
        [f"gates.bound={json.dumps(RATIO)}", f"students.depth.gates.bound={own}", "students.width.gates.bound=null"],
    )
    assert {name: gate.at_least for name, gate in recipe.gates_of("depth").items()} == {"bound": 0.7}
    assert recipe.gates_of("width") == {}
    assert load(str(RECIPE), [f"gates.bound={json.dumps(RATIO)}", "gates.bound=null"]).gates_of("depth") == {}


def test_questions_of_a_folder_are_counted_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for subject in ("law", "physics"):
        (tmp_path / "test" / f"{subject}_test.csv").write_text('"a,\nb",1,2,3,4,A\n' * 70)
    gate = f"gates.bound={json.dumps(RATIO | {'at_least': 0.97})}"
    where = f"evaluate.mmlu.path={tmp_path}"
    load(str(RECIPE), [gate, where])
    assert "with 60 questions" in told(gate, where, "evaluate.mmlu.limit=30")
    assert "with 50 questions" in told(gate, where, "evaluate.mmlu.limit=50", "evaluate.mmlu.subjects=[law]")


@given(st.floats(-0.2, -0.002), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_fewest_questions_are_where_the_intervals_say(bound: float, confidence: float) -> None:
    """At all answers right, one question fewer than the number told must not be enough, by the intervals the verdict
    uses."""
    z = float(
        np.sqrt(
            needed_questions(
                Gate(after="prune", metric="mmlu", against="absolute", at_least=0.5, confidence=confidence)
            )
        )
    )
    sides: dict[str, Any] = {"difference": bound, "ratio": 1 + bound}
    for by, at_least in sides.items():
        needed = needed_questions(Gate(after="distill", metric="mmlu", by=by, at_least=at_least, confidence=confidence))
        worst = {"difference": newcombe, "ratio": bonett_price}[by]
        assert worst((math.ceil(needed) + 2, 0, 0, 0), z)[1] >= at_least
        assert worst((math.floor(needed) - 2, 0, 0, 0), z)[1] < at_least


@pytest.mark.parametrize("shares", [(0.7, 0.05, 0.08, 0.17), (0.2, 0.1, 0.1, 0.6), (0.9, 0.03, 0.05, 0.02)])
@pytest.mark.parametrize("n", [60, 600])
def test_ratio_interval_has_nominal_coverage(shares: tuple[float, ...], n: int) -> None:
    tables = np.random.default_rng(1).multinomial(n, shares, size=2000)
    truth = (shares[0] + shares[1]) / (shares[0] + shares[2])
    ends = [bonett_price((float(a), float(b), float(c), float(d)))[1:] for a, b, c, d in tables]
    assert 0.94 <= np.mean([low <= truth <= high for low, high in ends]) <= 0.995
    assert np.mean([low > truth for low, _ in ends]) <= 0.035


def test_the_ratios_interval_of_the_literature() -> None:
    # Fagerland, Lydersen and Laake, Stat. Med. 33 (2014) 2850-2875, airway hyper-responsiveness, by their formula.
    assert bonett_price((1, 1, 7, 12)) == pytest.approx((0.25, 0.0677, 0.9227), abs=5e-5)


def scores(answers: list[bool] | None = None, losses: list[float] | None = None) -> Scores:
    values = losses or [1.0, 1.0]
    return Scores(
        answers={("s", index): answer for index, answer in enumerate(answers or [])},
        sequences={"val_loss": values, "kl_teacher": values, "agreement_teacher": values},
    )


def answered(right: int, n: int = 200) -> list[bool]:
    return [index < right for index in range(n)]


def verdict_of(gate: Gate, ours: Scores, other: Scores | None = None) -> Any:
    return judge("bound", gate, "small", "small-fp8", ours, other)


def test_the_three_verdicts_on_paired_answers() -> None:
    gate = Gate(after="quantize", metric="mmlu", against="before", by="difference", at_least=-0.05)
    before = scores(answered(180))
    passed = verdict_of(gate, scores(answered(178)), before)
    assert (passed.verdict, passed.n, passed.unit, passed.needs) == ("passed", 200, "questions", None)
    assert (passed.low, passed.p) == (pytest.approx(newcombe((178, 0, 2, 20))[1]), 0.5)
    unsure = verdict_of(gate, scores(answered(172)), before)
    assert (unsure.verdict, unsure.measured) == ("not shown", pytest.approx(-0.04))
    assert "small-fp8 is not shown to meet mmlu minus its value before the stage at least -0.05" in unsure.sentence
    assert f"about {unsure.needs:,} questions would show it" in unsure.sentence
    failed = verdict_of(gate, scores(answered(150)), before)
    assert (failed.verdict, failed.needs) == ("failed", None)
    assert "does not meet mmlu minus its value before the stage at least -0.05" in failed.sentence
    assert "more questions could change" not in failed.sentence
    near = verdict_of(gate, scores(answered(169)), before)
    assert near.verdict == "failed"
    assert "the interval includes the bound, so more questions could change the verdict" in near.sentence
    sure = gate.model_copy(update={"confidence": "none"})
    assert [verdict_of(sure, scores(answered(right)), before).verdict for right in (172, 170, 169)] == [
        "passed",
        "passed",
        "failed",
    ]


@given(st.integers(120, 200), st.floats(0.6, 1.2), st.sampled_from(["ratio", "difference"]))
def test_the_number_of_questions_told_is_enough_and_hardly_more(right: int, ratio: float, by: Any) -> None:
    bound = ratio if by == "ratio" else ratio - 1
    gate = Gate(after="distill", metric="mmlu", by=by, at_least=bound)
    found = verdict_of(gate, scores(answered(right)), scores(answered(190)))
    if found.needs is None:
        return
    worst = newcombe if by == "difference" else bonett_price
    both, lost = min(right, 190), max(190 - right, 0)
    table = np.array([both, max(right - 190, 0), lost, 200 - both - lost - max(right - 190, 0)], dtype=float)
    assert found.verdict == "not shown"
    assert worst(tuple(table * found.needs / 200))[1] >= bound - 1e-9
    assert worst(tuple(table * found.needs / 200 / 1.3))[1] < bound


def test_bound_equal_to_estimate_cannot_be_shown() -> None:
    gate = Gate(after="distill", metric="mmlu", against="absolute", at_least=0.5)
    found = verdict_of(gate, scores(answered(100)))
    assert (found.verdict, found.needs) == ("not shown", None)
    assert "no number of questions would show it" in found.sentence


def test_above_chance() -> None:
    gate = Gate(after="prune", metric="mmlu", against="chance", by="difference", at_least=0)
    for right, expected in ((80, "passed"), (55, "not shown"), (40, "failed")):
        found = verdict_of(gate, scores(answered(right)))
        assert found.verdict == expected
        assert found.low == pytest.approx(wilson(right, 200, Z95)[0] - 0.25)


def test_sequences_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(3, 1, 40)
    ours = base * 1.02 + rng.normal(0, 0.01, 40)
    pair = scores(losses=list(ours)), scores(losses=list(base))
    by_ratio = verdict_of(Gate(after="distill", metric="val_loss", by="ratio", at_most=1.03), *pair)
    assert by_ratio.verdict == "passed", "pairing takes away what the sequences have in common"
    assert by_ratio.measured == pytest.approx(ours.mean() / base.mean())
    resampled = [ours[pick].mean() / base[pick].mean() for pick in rng.integers(0, 40, (4000, 40))]
    assert (by_ratio.low, by_ratio.high) == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=3e-4)
    twice = verdict_of(Gate(after="distill", metric="perplexity", by="ratio", at_most=2), *pair)
    by_nats = verdict_of(Gate(after="distill", metric="val_loss", by="difference", at_most=0.5), *pair)
    assert (twice.measured, twice.high) == pytest.approx((math.exp(by_nats.measured), math.exp(by_nats.high)))
    alone = verdict_of(
        Gate(after="distill", metric="kl_teacher", against="absolute", at_most=0.1), scores(losses=[0.2])
    )
    assert (alone.verdict, alone.low, alone.n) == ("failed", None, 1)


@pytest.mark.slow
def test_failed_gate_stops_only_its_branch(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(finished, store, symlinks=True)
    for stage in ("quantize", "evaluate"):  # as if nothing after distillation had been made
        shutil.rmtree(store / stage)
    strict = {"after": "distill", "metric": "kl_teacher", "against": "absolute", "at_most": 1e-6}
    gates = [f"students.depth.gates.near={json.dumps(strict)}"]
    gates.append(f"gates.sane={json.dumps({'after': 'distill', 'metric': 'val_loss', 'by': 'ratio', 'at_most': 1.4})}")
    done = imbik("run", str(RECIPE), *gates, "--name", "gated", store=store, alone=True)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "gate near: depth does not meet kl_teacher at most 1e-06" in done.stderr
    assert done.stderr.strip().endswith("skipped models: depth-fp8, depth-nvfp4")
    report = report_of(store, "gated")
    assert [row["model"] for row in report["rows"]] == [
        "teacher",
        "depth-pruned",
        "depth",
        "width-pruned",
        "width",
        "width-fp8",
    ]
    assert {entry["model"]: entry["verdict"] for entry in report["gates"] if entry["gate"] == "near"} == {
        "depth": "failed"
    }
    assert {entry["model"]: entry["verdict"] for entry in report["gates"] if entry["gate"] == "sane"} == {
        "depth": "passed",
        "width": "passed",
    }
    assert report["stopped"] == {"depth-fp8": "near", "depth-nvfp4": "near"}
    page = (store / "runs" / "gated" / "report.html").read_text()
    assert "depth-nvfp4 was not built: gate near stopped its student." in page
    assert any("gate-depth-near: stopped" in line for line in done.stdout.splitlines())
    with sqlite3.connect(store / "prefect" / "prefect.db") as database:
        ((flow, state, message),) = database.execute(
            "select r.id, r.state_name, s.message from flow_run r join flow_run_state s on r.state_id = s.id where"
            " r.name = 'gated'"
        )
        tasks = database.execute(
            "select name, state_type, state_name from task_run where flow_run_id = ?", (flow,)
        ).fetchall()
    assert (state, message) == ("Stopped by a gate", done.stderr.strip().removeprefix("imbik: "))
    assert ("gate-depth-near", "FAILED", "Failed") in tasks
    assert [
        name.rsplit("-", 1)[0] for name, _, state in tasks if state == "NotReady" and name.startswith("quantize")
    ] == ["quantize-depth"] * 2
    with sqlite3.connect(store / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags where key like 'imbik.gate.%'"))
    assert "does not meet" in tags["imbik.gate.depth.near"]
    assert "meets" in tags["imbik.gate.width.sane"]

    before = {path.parent.name for path in store.glob("*/*/artifact.json")}
    lax = [gates[0].replace("1e-06", "9.0"), gates[1]]
    again = imbik("run", str(RECIPE), *lax, "--name", "gated", store=store)
    assert again.returncode == 0, again.stderr
    new = [
        json.loads(path.read_text())["stage"]
        for path in store.glob("*/*/artifact.json")
        if path.parent.name not in before
    ]
    assert sorted(new) == ["evaluate", "evaluate", "quantize", "quantize"]
    assert report_of(store, "gated")["stopped"] == {}
