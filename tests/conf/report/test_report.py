"""The model of report.json: its schema, its version, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from conf.report.benchmarks import Answerer
from conf.report.pruning import CacheBytes
from conf.report.report import VERSION, Report
from tests.fixtures.report import report, row

SCHEMA: dict[str, Any] = Report.model_json_schema()


def test_a_report_is_valid_by_its_schema() -> None:
    content = json.loads(report(row("teacher", "teacher"), chance=0.25).model_dump_json())
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    assert Report.model_validate(content).model_dump(mode="json") == content


def test_the_schema_knows_the_version() -> None:
    assert VERSION == 1
    assert SCHEMA["properties"]["version"]["const"] == VERSION
    assert "version" in SCHEMA["required"]


def test_every_field_of_a_row_is_described() -> None:
    assert all(field.get("description") for field in SCHEMA["$defs"]["Row"]["properties"].values())


def test_every_model_is_described() -> None:
    assert all(model.get("description") for model in SCHEMA["$defs"].values() if model.get("type") == "object")


@pytest.mark.parametrize("change", [{"version": 2}, {"name": None}, {"unknown": 1}, {"chance": float("nan")}])
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    content = report(row("teacher", "teacher")).model_dump()
    with pytest.raises(ValidationError):
        Report.model_validate(content | change)


@pytest.mark.parametrize("metric", ["mmlu", "val_loss", "bytes"])
def test_a_row_gives_a_metric_by_name(metric: str) -> None:
    made = row("small", mmlu=0.5, val_loss=1.5, bytes=3)
    assert made.value(metric) == getattr(made, metric)


@pytest.mark.parametrize(
    ("answerer", "title"),
    [
        ({"engine": "vLLM", "version": "0.32"}, "vLLM 0.32"),
        ({"engine": "vLLM", "version": "0.32", "on_cpu": True}, "vLLM 0.32 on a CPU"),
        ({"engine": "SGLang", "model": "tiny"}, "SGLang as tiny"),
    ],
)
def test_who_answered_in_a_few_words(answerer: dict[str, Any], title: str) -> None:
    assert Answerer.model_validate(answerer).title == title


def test_a_cut_that_leaves_three_quarters_of_the_cache_saves_one() -> None:
    assert CacheBytes(before=80, after=60).saved == 0.25
