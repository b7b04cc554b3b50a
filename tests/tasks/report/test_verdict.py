"""The verdict: what to take, what it costs, and the best beside it."""

from __future__ import annotations

from typing import Any

import pytest

from conf.load import load
from conf.report.benchmarks import BenchmarkRow, BenchmarkScore
from conf.report.row import Difference, Row
from conf.report.winner import Winner
from tasks.report import render
from tasks.report.verdict import verdict
from tests.fixtures.report import report, row

TEACHER = row("teacher", "teacher", bytes=3_400_000, mmlu=0.9, mmlu_n=200, mmlu_ci95=(0.85, 0.93), val_loss=1.0)
LOST = Difference(model="teacher", val_loss=0.012, bytes_ratio=0.3, mmlu=-0.007, mmlu_ci95=(-0.02, 0.009))
SMALL = row(
    "depth-fp8",
    "quantize",
    bytes=1_000_000,
    val_loss=1.012,
    kl_teacher=0.02,
    mmlu=0.893,
    mmlu_ci95=(0.84, 0.92),
    against_teacher=LOST,
    taught=True,
)
BEST = row("depth", bytes=2_000_000, val_loss=1.002, taught=True)


def told(winner: dict[str, Any] | None, *rows: Row, settings: tuple[str, ...] = (), **fields: Any) -> tuple[str, ...]:
    chosen = Winner(registered="mine", sentence="s", **winner) if winner else None
    return verdict(load("demo", list(settings)), report(*rows, winner=chosen, chance=0.25, **fields))


CHOSEN = {"model": "depth-fp8", "by": "val_loss", "best": "depth", "margin": 0.02}


def test_the_verdict_is_three_lines() -> None:
    assert told(CHOSEN, TEACHER, BEST, SMALL) == (
        "Take depth-fp8: 3.4 times smaller than its teacher (1.00 MB instead of 3.40 MB).",
        "It loses 0.012 nats against it (test loss 1.012) and is 0.020 nats of KL from it; it answers 89.3%, no shown"
        " difference in score: -0.7 points (95% -2.0 to +0.9).",
        "It is the smallest within 0.02 nats of test loss of the best quality: depth, 2.00 MB, 1.0020 nats, shown to be"
        " better.",
    )


def test_a_tie_is_called_a_tie() -> None:
    assert "a tie with it: no difference is shown" in told(CHOSEN | {"tied": ("depth-fp8",)}, TEACHER, BEST, SMALL)[2]
    best = told(CHOSEN | {"best": "depth-fp8", "tied": ("depth",)}, TEACHER, BEST, SMALL)[2]
    assert best == "It is the best by test loss; a tie with depth: no difference is shown."


def test_a_benchmark_that_decided_is_named() -> None:
    fields = {"n": 20, "ci95": (0.0, 1.0), "chance": 0.0, "cut_by_length": 0.0, "no_answer": 0.0, "shots": 0}
    fields |= {"chat": False, "samples": 1, "pass_at": {}, "others": {}, "left_out": 0}
    rows = tuple(
        BenchmarkRow(benchmark="gsm8k", model=model, scores=BenchmarkScore.model_validate(fields | {"score": score}))
        for model, score in (("depth-fp8", 0.31), ("depth", 0.325))
    )
    by = CHOSEN | {"by": "gsm8k", "margin": 0.05, "tied": ("depth-fp8",)}
    assert told(by, TEACHER, BEST, SMALL, benchmarks=rows)[2] == (
        "It is the smallest within 5 points of score on gsm8k of the best quality: depth, 2.00 MB, 32.5%, a tie with"
        " it: no difference is shown."
    )


def test_a_gain_and_no_questions() -> None:
    gained = LOST.model_copy(update={"val_loss": -0.142, "mmlu": None, "mmlu_ci95": None})
    small = SMALL.model_copy(update={"against_teacher": gained, "mmlu": None, "mmlu_ci95": None})
    assert told(CHOSEN, TEACHER, BEST, small)[1] == (
        "It gains 0.142 nats against it (test loss 1.012) and is 0.020 nats of KL from it; no questions were asked."
    )


def test_scores_at_chance_say_nothing() -> None:
    teacher = TEACHER.model_copy(update={"mmlu": 0.26, "mmlu_ci95": (0.2, 0.3)})
    assert "its score says nothing, as the teacher's is at chance" in told(CHOSEN, teacher, BEST, SMALL)[1]


def test_untaught_models_are_not_to_be_taken() -> None:
    pruned = row("depth-pruned", "prune", taught=False)
    (sentence,) = told(None, TEACHER, pruned, settings=("distill=null", "quantize=[]"))
    assert sentence == (
        "Take none of them yet: depth-pruned was pruned and never taught; add distill or sft to the recipe."
    )


def test_a_recipe_without_winner_has_no_verdict() -> None:
    assert told(None, TEACHER, BEST, settings=("winner=null",)) == ()


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_the_verdict_stands_before_the_table(name: str) -> None:
    made = report(TEACHER, verdict=("Take it.",), summary=("It is so.",), description="What it is.")
    text = render.html(made, {}) if name.endswith("html") else render.markdown(made, {})
    places = [text.index(part) for part in ("What it is.", "Take it.", "top-1", "It is so.")]
    assert places == sorted(places)
