"""The ladder of formats: which format a student keeps, and the link to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.load import RecipeError, load
from conf.report.benchmarks import BenchmarkRow
from conf.report.row import Difference, Row
from tasks.analysis.ladder import choose_format, link
from tests.fixtures.report import row

LADDER = "ladder={formats: [fp8, nvfp4], metric: %s, bound: %s, confident: %s}"


def quantized(name: str, loss: float, points: float | None = None, low: float = 0.0) -> Row:
    """A quantized model that lost `loss` nats, and `points` (a share) with `low` at the worse end."""
    score: dict[str, Any] = {} if points is None else {"mmlu": -points, "mmlu_ci95": (-low, 0.01)}
    against = Difference(model="small", val_loss=loss, bytes_ratio=0.5, **score)
    worse = Difference(model="teacher", val_loss=9.0, bytes_ratio=0.5, mmlu=-0.9, mmlu_ci95=(-0.95, -0.9))
    fields = {"format": name, "bytes": 100 if name == "fp8" else 50}
    return row(f"small-{name}", "quantize", against_student=against, against_teacher=worse, **fields)


def kept(metric: str, bound: float, *rows: Row, confident: bool = True) -> str | None:
    recipe = load("demo", [LADDER % (metric, bound, str(confident).lower())])
    return choose_format(recipe, rows)["small"].kept


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0.019, None), (0.02, "small-fp8"), (0.29, "small-fp8"), (0.3, "small-nvfp4"), (9, "small-nvfp4")],
)
def test_the_last_format_within_the_bound_is_kept(bound: float, expected: str | None) -> None:
    assert kept("val_loss", bound, quantized("fp8", 0.02), quantized("nvfp4", 0.3)) == expected


def test_a_smaller_format_may_pass_where_a_larger_fails() -> None:
    assert kept("val_loss", 0.1, quantized("fp8", 0.2), quantized("nvfp4", 0.05)) == "small-nvfp4"


@pytest.mark.parametrize(
    ("confident", "bound", "expected"),
    [(True, 0.03, None), (True, 0.05, "small-fp8"), (False, 0.019, None), (False, 0.02, "small-fp8")],
)
def test_a_score_is_judged_at_its_worse_end(confident: bool, bound: float, expected: str | None) -> None:
    assert kept("mmlu", bound, quantized("fp8", 0.5, 0.02, 0.05), confident=confident) == expected


def on_benchmark(model: str, lost: float, low: float, benchmark: str = "gsm8k", before: bool = True) -> BenchmarkRow:
    """A model that lost `lost` of a benchmark's score, `low` at the worse end, against its student or the teacher."""
    change = {"model": "small", "difference": -lost, "ci95": (-low, 0.01), "p": 0.5}
    far = {"model": "teacher", "difference": -0.9, "ci95": (-0.95, -0.8), "p": 0.0}
    scores = dict.fromkeys(("score", "chance", "cut_by_length", "no_answer"), 0.0) | {"ci95": (0.0, 0.1), "n": 9}
    scores |= {"shots": 0, "chat": False, "samples": 1, "pass_at": {}, "others": {}, "left_out": 0}
    against = {"against_teacher": far if before else change} | ({"against_before": change} if before else {})
    return BenchmarkRow.model_validate({"benchmark": benchmark, "model": model, "scores": scores} | against)


@pytest.mark.parametrize(
    ("confident", "bound", "expected"),
    [(True, 0.049, None), (True, 0.05, "small-fp8"), (False, 0.019, None), (False, 0.02, "small-fp8")],
)
def test_a_benchmark_is_judged_at_its_worse_end(confident: bool, bound: float, expected: str | None) -> None:
    asked = ["evaluate.benchmarks={gsm8k: {}}", LADDER % ("gsm8k", bound, str(confident).lower())]
    rows = (on_benchmark("small-fp8", 0.0, 0.0, "mbpp"), on_benchmark("small-fp8", 0.02, 0.05))
    (choice,) = choose_format(load("demo", asked), (quantized("fp8", 0.5),), rows).values()
    assert (choice.kept, choice.rungs[0].lost, choice.rungs[0].worst) == (expected, 0.02, 0.05)
    alone = quantized("fp8", 0.5).model_copy(update={"against_student": None})
    (choice,) = choose_format(
        load("demo", asked), (alone,), (on_benchmark("small-fp8", 0.02, 0.05, before=False),)
    ).values()
    assert choice.kept == expected
    (choice,) = choose_format(load("demo", asked), (quantized("fp8", 0.5),), ()).values()
    assert (choice.kept, choice.rungs[0].lost) == (None, None), "what was not asked is not kept"


def test_what_is_not_measured_is_not_kept() -> None:
    assert kept("mmlu", 0.9, quantized("fp8", 0.0)) is None


def test_rungs_have_the_ladders_order_and_losses() -> None:
    rows = (quantized("nvfp4", 0.3, 0.1, 0.2), quantized("fp8", 0.02, 0.01, 0.03))
    by_score = choose_format(load("demo", [LADDER % ("mmlu", 0.05, "true")]), rows)["small"].rungs
    assert [(rung.model, rung.lost, rung.worst, rung.inside, rung.bytes) for rung in by_score] == [
        ("small-fp8", 0.01, 0.03, True, 100),
        ("small-nvfp4", 0.1, 0.2, False, 50),
    ]
    by_loss = choose_format(load("demo", [LADDER % ("val_loss", 0.05, "true")]), rows)["small"].rungs
    assert [(rung.lost, rung.worst) for rung in by_loss] == [(0.02, 0.02), (0.3, 0.3)]


def test_without_a_student_row_the_teacher_is_the_base() -> None:
    alone = quantized("fp8", 0.02).model_copy(update={"against_student": None})
    assert kept("val_loss", 8.9, alone) is None
    assert kept("val_loss", 9.0, alone) == "small-fp8"


def test_without_a_ladder_nothing_is_chosen() -> None:
    assert choose_format(load("demo"), (quantized("fp8", 0.02),)) == {}


def test_formats_outside_the_ladder_are_no_rungs() -> None:
    recipe = load("demo", [LADDER % ("val_loss", 0.5, "true")])
    other = quantized("fp8", 0.02).model_copy(update={"format": "int8_sq"})
    assert choose_format(recipe, (other,)) == {}


def test_the_kept_model_is_linked_and_a_stale_link_goes(tmp_path: Path) -> None:
    recipe = load("demo", [LADDER % ("val_loss", 0.05, "true")])
    link(tmp_path, choose_format(recipe, (quantized("fp8", 0.02),)))
    assert (tmp_path / "kept-small").is_symlink()
    assert (tmp_path / "kept-small").readlink().parts[-3:] == ("store", "small-fp8", "model")
    link(tmp_path, choose_format(recipe, (quantized("fp8", 0.2),)))
    assert not (tmp_path / "kept-small").is_symlink()


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (
            [LADDER % ("mmlu", 0.01, "true"), "quantize=[fp8]"],
            "ladder.formats names nvfp4, which is not in the recipe's quantize",
        ),
        ([LADDER % ("mmlu", 0, "true")], "ladder.bound is 0"),
        ([LADDER % ("mmlu", 0.01, "true"), "evaluate.mmlu=null"], "ladder.metric is mmlu but evaluate.mmlu is null"),
        (["ladder={formats: [fp8, fp8], bound: 0.01}"], "ladder.formats has duplicates"),
        ([LADDER % ("gsm8", 0.01, "true")], "ladder.metric is 'gsm8'.* did you mean gsm8k"),
    ],
)
def test_a_ladder_that_cannot_work_is_refused(overrides: list[str], part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load("demo", overrides)


def test_a_ladder_by_a_benchmark_that_is_not_asked_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ladder.metric is gsm8k but .* add evaluate.benchmarks.gsm8k or choose val_"):
        load("demo", [LADDER % ("gsm8k", 0.01, "true")])
