"""The ladder of formats: which rung is kept, what the report says of it, and which ladders are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.load import RecipeError, load
from tasks.analysis import ladder
from tasks.report.model import Measured
from tasks.report.report import write_report
from tests.tasks.test_report import models  # noqa: F401 - a fixture

LADDER = "ladder={formats: [fp8, nvfp4], metric: %s, bound: %s, confident: %s}"


def climbed(tmp_path: Path, made: list[Measured], metric: str, bound: float, confident: bool = True) -> Any:
    """The report of small-fp8 (163 of 200 right, 1.21 nats) and small-nvfp4 (140, 1.5) beside their student, with a
    ladder."""
    recipe = load("demo", [LADDER % (metric, bound, str(confident).lower())])
    return write_report(tmp_path / "run", "mine", recipe, made)


def test_the_last_rung_inside_the_bound_is_kept_and_linked(models: list[Measured], tmp_path: Path) -> None:
    for metric, bound, kept in (
        ("val_loss", 0.02, "small-fp8"),
        ("val_loss", 0.5, "small-nvfp4"),
        ("val_loss", 0.001, None),
    ):
        report = climbed(tmp_path, models, metric, bound)
        assert report["ladder"]["small"]["kept"] == kept
        ladder.link(tmp_path / "run", report["ladder"])
        link = tmp_path / "run" / "kept-small"
        assert link.is_symlink() == (kept is not None)
        if kept:
            assert str(link.readlink()).endswith(f"made-{kept}/model")


def test_a_score_is_held_against_the_bound_at_the_worse_end_of_its_interval(
    models: list[Measured], tmp_path: Path
) -> None:
    rung = climbed(tmp_path, models, "mmlu", 0.5)["ladder"]["small"]["rungs"][0]
    assert rung["lost"] < rung["worst"]
    between = (rung["lost"] + rung["worst"]) / 2
    assert between > 0
    assert not climbed(tmp_path, models, "mmlu", between)["ladder"]["small"]["rungs"][0]["inside"]
    assert climbed(tmp_path, models, "mmlu", between, confident=False)["ladder"]["small"]["rungs"][0]["inside"]


def test_the_report_tells_every_rung(models: list[Measured], tmp_path: Path) -> None:
    report = climbed(tmp_path, models, "val_loss", 0.02)
    section = next(entry for entry in report["sections"] if entry["title"] == "The ladder of formats")
    assert [row[0] for row in section["rows"]] == ["small-fp8", "small-nvfp4"]
    assert [row[4] for row in section["rows"]] == ["kept", "outside"]
    assert "small keeps small-fp8" in section["sentences"][0]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["ladder"] == report["ladder"]


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
    ],
)
def test_ladders_that_cannot_be_climbed_are_refused(overrides: list[str], part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        load("demo", overrides)
