"""The rows of the report from sealed scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.load import load
from conf.report.row import Row
from tasks.report.model import ReportModel
from tasks.report.rows import model_scores, recipe_rows, standalone_rows
from tests.fixtures.report import measured, models  # noqa: F401 - a fixture


def by_model(made: list[ReportModel], *overrides: str) -> dict[str, Row]:
    return {row.model: row for row in recipe_rows(load("demo", list(overrides)), made)}


def test_scores_are_read_with_the_models_names(models: list[ReportModel]) -> None:
    scores = model_scores(models[3])
    assert (scores.model, scores.stage, scores.student, scores.format) == ("small-fp8", "quantize", "small", "fp8")
    assert (scores.mmlu, scores.val_loss, scores.simulated, scores.path) == (0.815, 1.21, True, models[3].path)


def test_every_model_is_compared_with_the_teacher(models: list[ReportModel]) -> None:
    rows = by_model(models)
    assert list(rows) == [model.model for model in models]
    assert {row.against_teacher.model for row in rows.values()} == {"teacher"}
    assert rows["teacher"].against_teacher.mmlu == 0
    assert rows["small-pruned"].against_teacher.mmlu == pytest.approx(-0.4)
    assert rows["small"].share_params == 0.5


def test_a_quantized_model_is_compared_with_its_student(models: list[ReportModel]) -> None:
    rows = by_model(models)
    against = rows["small-nvfp4"].against_student
    assert against is not None and (against.model, against.mmlu_n) == ("small", 200)
    assert against.mmlu == pytest.approx((140 - 164) / 200)
    assert (against.val_loss, against.bytes_ratio) == (pytest.approx(0.3), 0.3)
    assert rows["small"].against_student is rows["teacher"].against_student is None


@pytest.mark.parametrize(
    ("removed", "base"), [((), "small-sft"), (("small-sft",), "small"), (("small-sft", "small"), "small-pruned")]
)
def test_the_base_is_the_last_stage_before(
    removed: tuple[str, ...], base: str, models: list[ReportModel], tmp_path: Path
) -> None:
    every = [*models, measured(tmp_path, "small-sft", "sft", 150, 1.1)]
    rows = by_model([model for model in every if model.model not in removed])
    against = rows["small-fp8"].against_student
    assert against is not None and against.model == base


def test_distillation_recovers_a_share(models: list[ReportModel]) -> None:
    rows = by_model(models)
    found = rows["small"].recovered
    assert found is not None
    assert found.nats == pytest.approx((2.0 - 1.2) / (2.0 - 1.0))
    assert found.points == pytest.approx((164 - 100) / (180 - 100))
    assert rows["small-pruned"].recovered is rows["small-fp8"].recovered is None


def test_baselines_are_named(models: list[ReportModel]) -> None:
    assert {row.baseline for row in by_model(models).values()} == {None}
    random = 'students.small={"prune": {"num_layers": 3, "ranking": "random"}}'
    assert by_model(models, "students.width=null", random)["small"].baseline == "random"


@pytest.mark.parametrize(
    ("overrides", "formats"),
    [
        ((), False),  # the recipe has no student of this name
        (('students.small={"prune": {"num_layers": 3}}',), True),
        (('students.small={"prune": {"num_layers": 3}}', "distill=null"), False),
    ],
)
def test_a_format_is_taught_as_its_student(
    overrides: tuple[str, ...], formats: bool, models: list[ReportModel]
) -> None:
    rows = by_model(models, *overrides)
    taught = {"teacher": None, "small-pruned": False, "small": True, "small-fp8": formats, "small-nvfp4": formats}
    assert {name: row.taught for name, row in rows.items()} == taught


def test_standalone_models_are_compared_with_the_first(models: list[ReportModel]) -> None:
    rows = standalone_rows(models[2:])
    assert [row.against_teacher.model for row in rows] == ["small"] * 3
    assert [row.share_params for row in rows] == [1.0, 1.0, 1.0]
    assert standalone_rows([models[0], models[1]])[1].share_params == 0.5
    assert rows[1].against_teacher.mmlu == pytest.approx(-1 / 200)


def test_unknown_keys_of_scores_are_ignored(models: list[ReportModel]) -> None:
    file = Path(models[0].scores) / "scores.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"new": 1}))
    assert model_scores(models[0]).mmlu == 0.9
