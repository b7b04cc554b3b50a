"""The winner of a run: the best, or the smallest that is shown to be nearly as good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from conf.load import load
from conf.report.benchmarks import BenchmarkRow, BenchmarkScore
from conf.report.gates import Verdict
from conf.report.ladder import LadderChoice, Rung
from conf.report.report import Report
from conf.report.row import Difference, Row
from tasks.analysis.statistics import newcombe
from tasks.analysis.winner import choose, eligible
from tests.fixtures.report import report, row

BEST = [1.0, 2.0, 3.0, 4.0]
LOST = [0.008, 0.012, 0.009, 0.011]
LARGE = row("depth", val_loss=2.5, bytes=100, mmlu=0.8, kl_teacher=0.1)
SMALL = row("depth-fp8", "quantize", val_loss=2.51, bytes=50, mmlu=0.75, kl_teacher=0.2)
PRUNED = row("depth-pruned", "prune", val_loss=2.0, bytes=90)
HIGH = stats.ttest_1samp(LOST, 0).confidence_interval(0.95).high


def scores(folder: Path, worse: list[float] = LOST) -> dict[str, str]:
    """Scores of the two: four sequences, and 200 questions of which 160 and 150 are right."""
    values = {"depth": BEST, "depth-fp8": [value + lost for value, lost in zip(BEST, worse, strict=False)]}
    for model, right in (("depth", 160), ("depth-fp8", 150)):
        (folder / model).mkdir(parents=True)
        losses = values[model][: len(worse)]
        (folder / model / "sequences.json").write_text(json.dumps({"val_loss": losses, "kl_teacher": losses}))
        items = [json.dumps({"subject": "s", "index": index, "correct": index < right}) for index in range(200)]
        (folder / model / "items.jsonl").write_text("\n".join(items))
    return {model: str(folder / model) for model in values}


NO_MARGIN = "winner.margin=0"


def won(folder: Path, *settings: str, rows: tuple[Row, ...] = (LARGE, SMALL, PRUNED), **fields: Any) -> str | None:
    winner = choose(load("demo", list(settings)), report(*rows, **fields), scores(folder))
    return winner.model if winner else None


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("winner.registered=ours", "depth-fp8"),  # the margin that nobody set: 0.02 nats
        ("winner.margin=0", "depth"),
        ("winner.margin=0.011", "depth"),  # above the estimate of 0.01, below the interval's end
        (f"winner.margin={HIGH - 1e-6}", "depth"),
        (f"winner.margin={HIGH + 1e-6}", "depth-fp8"),
        ("winner.max_bytes=99", "depth-fp8"),
        ("winner.max_bytes=50", "depth-fp8"),
        ("winner.max_bytes=49", None),
        ("winner.model=depth-fp8", "depth-fp8"),
        ("winner=null", None),
    ],
)
def test_the_winner_by_test_loss(setting: str, expected: str | None, tmp_path: Path) -> None:
    assert won(tmp_path, setting) == expected


def test_a_higher_score_and_a_lower_kl_win(tmp_path: Path) -> None:
    better = SMALL.model_copy(update={"mmlu": 0.9, "kl_teacher": 0.05})
    assert won(tmp_path / "a", "winner.by=mmlu", rows=(LARGE, SMALL)) == "depth"
    assert won(tmp_path / "b", "winner.by=mmlu", rows=(LARGE, better)) == "depth-fp8"
    assert won(tmp_path / "c", "winner.by=kl_teacher", rows=(LARGE, better)) == "depth-fp8"


def judged(folder: Path) -> dict[str, dict[str, str]]:
    """What gsm8k's judge says of the two: 20 questions, twice each, of which 14 and 16 are right at first."""
    found = {}
    for model, right in (("depth", 14), ("depth-fp8", 16)):
        (folder / model).mkdir(parents=True)
        (folder / model / "benchmark.json").write_text(json.dumps({"chance": 0.0}))
        items = [
            json.dumps({"subject": "gsm8k", "index": index, "sample": sample, "correct": index < right and not sample})
            for index in range(20)
            for sample in range(2)
        ]
        (folder / model / "items.jsonl").write_text("\n".join(items))
        found[model] = {"gsm8k": str(folder / model)}
    return found


def on_gsm8k(model: str, score: float) -> BenchmarkRow:
    fields = {"n": 20, "ci95": (0.0, 1.0), "chance": 0.0, "cut_by_length": 0.0, "no_answer": 0.0, "shots": 0}
    fields |= {"chat": False, "samples": 2, "pass_at": {}, "others": {}, "left_out": 0}
    return BenchmarkRow(benchmark="gsm8k", model=model, scores=BenchmarkScore.model_validate(fields | {"score": score}))


ON_GSM8K = ["evaluate.benchmarks={gsm8k: {}}", "winner.by=gsm8k"]


@pytest.mark.parametrize(
    ("asked", "margin", "expected"),
    [
        ({"depth": 0.35, "depth-fp8": 0.4}, 0.0, "depth-fp8"),
        ({"depth": 0.4, "depth-fp8": 0.35}, 0.0, "depth"),
        ({"depth": 0.4, "depth-fp8": 0.35}, 0.9, "depth-fp8"),  # the smaller one, within the margin
        ({"depth": 0.35}, 0.0, "depth"),  # the other was not asked
        ({}, 0.0, None),
    ],
)
def test_a_benchmark_decides(asked: dict[str, float], margin: float, expected: str | None, tmp_path: Path) -> None:
    rows = tuple(on_gsm8k(model, score) for model, score in asked.items())
    recipe = load("demo", [*ON_GSM8K, f"winner.margin={margin}"])
    winner = choose(recipe, report(LARGE, SMALL, benchmarks=rows), {}, judged(tmp_path))
    assert (winner.model if winner else None) == expected


def test_a_benchmark_is_paired_over_its_own_questions(tmp_path: Path) -> None:
    difference, low, high = newcombe((14, 2, 0, 4))
    rows = (on_gsm8k("depth", 0.35), on_gsm8k("depth-fp8", 0.4))
    winner = choose(load("demo", ON_GSM8K), report(LARGE, SMALL, benchmarks=rows), {}, judged(tmp_path))
    assert winner and (winner.by, winner.margin, winner.tied) == ("gsm8k", 0.01, ("depth",))
    assert low < 0 and winner.sentence == (
        "The winner is depth-fp8: the best score on gsm8k of 2 models, 40.0 points; it is a tie with depth, which is"
        f" not shown to be worse: by {difference * 100:.1f} points (95% {low * 100:.1f} to {high * 100:.1f})."
    )


def test_of_equals_the_smaller_wins(tmp_path: Path) -> None:
    assert won(tmp_path, rows=(LARGE, SMALL.model_copy(update={"val_loss": 2.5}))) == "depth-fp8"


def test_of_equal_losses_the_smaller_wins_without_a_margin(tmp_path: Path) -> None:
    equal = scores(tmp_path, [0.0] * len(BEST))
    winner = choose(load("demo", [NO_MARGIN]), report(LARGE, SMALL), equal)
    assert winner is not None and (winner.model, winner.best, winner.tied) == ("depth-fp8", "depth", ("depth-fp8",))


def test_a_score_counts_at_newcombes_worse_end(tmp_path: Path) -> None:
    worst = -newcombe((150, 0, 10, 40))[1]
    for name, margin, expected in (("a", worst - 1e-6, "depth"), ("b", worst + 1e-6, "depth-fp8")):
        assert won(tmp_path / name, "winner.by=mmlu", f"winner.margin={margin}") == expected


@pytest.mark.parametrize(("metric", "margin"), [("val_loss", 0.02), ("kl_teacher", 0.02), ("mmlu", 0.01)])
def test_a_margin_that_nobody_set_is_the_documented_one(metric: str, margin: float, tmp_path: Path) -> None:
    winner = choose(load("demo", [f"winner.by={metric}"]), report(LARGE, SMALL), scores(tmp_path))
    assert winner is not None and winner.margin == margin  # conf/README.md: 0.02 nats, or 0.01 of the questions


def test_a_model_without_the_metric_does_not_win(tmp_path: Path) -> None:
    assert won(tmp_path, "winner.by=mmlu", rows=(LARGE.model_copy(update={"mmlu": None}), SMALL)) == "depth-fp8"


def verdict(model: str, result: str) -> Verdict:
    fields: dict[str, Any] = dict.fromkeys(("low", "high", "p", "needs", "confidence"))
    fields |= {"gate": "g", "student": "depth", "after": "distill", "bound": "b", "measured": 1.0, "n": 1}
    return Verdict(model=model, verdict=result, unit="questions", sentence="s", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "expected"), [("passed", "depth"), ("failed", "depth-fp8"), ("not shown", "depth-fp8")]
)
def test_a_closed_gate_takes_a_model_out(result: str, expected: str, tmp_path: Path) -> None:
    assert won(tmp_path, NO_MARGIN, gates=(verdict("depth", result),)) == expected


def names(made: Report, *settings: str) -> list[str]:
    return [row.model for row in eligible(load("demo", list(settings)), made)]


def test_eligible_are_taught_students_of_the_recipe() -> None:
    others = [
        row("teacher", "teacher"),
        row("other"),
        row("depth-baseline", baseline="random", student="depth"),
    ]
    assert names(report(LARGE, SMALL, PRUNED, *others)) == ["depth", "depth-fp8"]


UNTAUGHT = PRUNED.model_copy(update={"taught": False})


def test_a_model_nobody_taught_never_wins_by_rule(tmp_path: Path) -> None:
    quantized = SMALL.model_copy(update={"taught": False})
    assert names(report(UNTAUGHT, quantized), "distill=null") == []
    assert won(tmp_path, "distill=null", rows=(UNTAUGHT, quantized)) is None


def test_an_untaught_model_named_by_the_recipe_is_called_that(tmp_path: Path) -> None:
    settings = ("distill=null", "quantize=[]", "winner.model=depth-pruned")
    winner = choose(load("demo", list(settings)), report(UNTAUGHT), scores(tmp_path))
    assert winner and winner.sentence.endswith("in the recipe; nobody taught it: it was pruned and no more.")


def test_the_ladder_takes_out_formats_it_does_not_keep() -> None:
    rungs = tuple(
        Rung(model=name, bytes=1, lost=0.0, worst=0.0, inside=True, path="p") for name in ("depth-fp8", "depth-nvfp4")
    )
    rows = (LARGE, SMALL, row("depth-nvfp4", "quantize"))
    kept = report(*rows, ladder={"depth": LadderChoice(rungs=rungs, kept="depth-nvfp4")})
    assert names(kept) == ["depth", "depth-nvfp4"]
    none = report(*rows, ladder={"depth": LadderChoice(rungs=rungs, kept=None)})
    assert names(none) == ["depth", "depth-fp8", "depth-nvfp4"]


def sentence(folder: Path, *settings: str, rows: tuple[Row, ...] = (LARGE, SMALL), worse: list[float] = LOST) -> str:
    winner = choose(load("demo", list(settings)), report(*rows), scores(folder, worse))
    assert winner
    return winner.sentence


def test_the_sentence_of_the_best(tmp_path: Path) -> None:
    low, high = stats.ttest_1samp(LOST, 0).confidence_interval(0.95)
    assert sentence(tmp_path, NO_MARGIN) == (
        "The winner is depth: the best test loss of 2 models, 2.5000 nats; depth-fp8 is shown to be worse: by 0.0100"
        f" nats (95% {low:.4f} to {high:.4f})."
    )


@pytest.mark.parametrize(
    ("seeds", "rows", "told"),
    [
        ("students.depth.seeds=2", (LARGE, SMALL), True),
        ("students.width.seeds=2", (LARGE, SMALL), False),  # none of its models is in the report
        ("students.depth.seeds=2", (LARGE,), False),
    ],
)
def test_that_first_seeds_are_compared_is_told(seeds: str, rows: tuple[Row, ...], told: bool, tmp_path: Path) -> None:
    end = ". Only first seeds are compared here; claims compare students over all of theirs."
    assert sentence(tmp_path, NO_MARGIN, seeds, rows=rows).endswith(end) is told


def test_the_sentence_where_the_next_is_not_shown_worse(tmp_path: Path) -> None:
    told = sentence(tmp_path, worse=[0.1, -0.05, 0.01, 0.0])
    assert "it is a tie with depth-fp8, which is not shown to be worse: by" in told


def test_the_sentence_of_the_smaller_one(tmp_path: Path) -> None:
    low, high = stats.ttest_1samp(LOST, 0).confidence_interval(0.95)
    assert sentence(tmp_path, "winner.margin=0.05") == (
        "The winner is depth-fp8: the smallest model shown to lose at most 0.0500 nats of test loss against depth, the"
        f" best; it loses 0.0100 nats (95% {low:.4f} to {high:.4f})."
    )


def test_the_sentence_of_a_score_is_in_points(tmp_path: Path) -> None:
    difference, low, high = newcombe((150, 0, 10, 40))
    assert sentence(tmp_path, "winner.by=mmlu", "winner.margin=0.2") == (
        "The winner is depth-fp8: the smallest model shown to lose at most 20.0 points of score against depth, the"
        f" best; it loses {-difference * 100:.1f} points (95% {-high * 100:.1f} to {-low * 100:.1f})."
    )


def test_the_sentence_of_the_only_one(tmp_path: Path) -> None:
    assert sentence(tmp_path / "a", rows=(LARGE,)) == "The winner is depth: no other model is eligible."
    named = sentence(tmp_path / "b", "winner.model=depth")
    assert named == "The winner is depth, set by winner.model in the recipe."


def test_one_sequence_has_no_interval(tmp_path: Path) -> None:
    told = sentence(tmp_path, worse=[0.01])
    assert "by 0.0100 nats (no interval from one test sequence)" in told and "tie" in told


def outside(folder: Path) -> list[Row]:
    """A teacher that guesses among 512 tokens, and the two students."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps({"vocab_size": 512}))
    teacher = row("teacher", "teacher", val_loss=5.5, path=str(folder / "model"))
    return [teacher, LARGE.model_copy(update={"kl_teacher": 0.9}), SMALL]


def test_outside_the_teachers_domain_kl_decides(tmp_path: Path) -> None:
    winner = choose(load("demo"), report(*outside(tmp_path)), scores(tmp_path))
    assert winner and (winner.model, winner.by, winner.best) == ("depth-fp8", "kl_teacher", "depth-fp8")
    assert winner.sentence.endswith(
        "KL from the teacher decides, because the teacher's test loss of 5.500 nats is near that of guessing among 512"
        " tokens (6.238)."
    )
    asked = choose(load("demo", ["winner.by=val_loss"]), report(*outside(tmp_path / "b")), scores(tmp_path / "c"))
    assert asked and asked.by == "val_loss"


@pytest.mark.parametrize(("high", "by"), [(-0.01, "kl_teacher"), (0.01, "val_loss")])
def test_a_cut_shown_better_than_the_teacher_makes_kl_the_judge(high: float, by: str, tmp_path: Path) -> None:
    gain = Difference(model="teacher", val_loss=-0.142, val_loss_ci95=(-0.3, high), bytes_ratio=0.5)
    rows = (row("teacher", "teacher"), PRUNED.model_copy(update={"against_teacher": gain}), LARGE, SMALL)
    winner = choose(load("demo"), report(*rows), scores(tmp_path))
    assert winner and winner.by == by


def test_ties_with_the_best_are_named(tmp_path: Path) -> None:
    tied = choose(load("demo"), report(LARGE, SMALL), scores(tmp_path / "a", [0.1, -0.05, 0.01, 0.0]))
    worse = choose(load("demo"), report(LARGE, SMALL), scores(tmp_path / "b"))
    assert tied and worse and (tied.tied, worse.tied) == (("depth-fp8",), ())


def test_the_registered_name_is_the_runs_or_the_recipes(tmp_path: Path) -> None:
    folders = scores(tmp_path)
    for settings, name in (([], "mine"), (["winner.registered=ours"], "ours")):
        winner = choose(load("demo", settings), report(LARGE, SMALL), folders)
        assert winner and winner.registered == name
