"""The reference of keys and the schema for editors: every key is there, and every shipped recipe fits the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from conf import yaml_text
from conf.load import PRESETS, load, names
from conf.recipe import Recipe
from conf.reference import editor_schema, reference, sections
from conf.wording import model_in

SCHEMA = editor_schema()
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def count(model: type[BaseModel]) -> int:
    """All settings below a model, sections included."""
    below = [model_in(field.annotation) for field in model.model_fields.values()]
    return len(model.model_fields) + sum(count(inner) for inner in below if inner)


def test_every_key_is_told_with_kind_and_meaning() -> None:
    keys = [(section.where, key) for section in reference() for key in section.keys]
    assert len(keys) == count(Recipe)
    for where, key in keys:
        assert key.kind and "value" not in key.kind.split(), f"{where}.{key.name}"
        assert key.meaning or key.kind.startswith("section"), f"{where}.{key.name}"


KEYS = {
    ("distill", "lr"): ("number, above 0", None),
    ("distill", "top_k"): ("whole number, at least 1", "null"),
    ("distill", "ce_share"): ("number, at least 0, at most 1 or balanced", "0.0"),
    ("data", "source"): ("text or list of text", None),
    ("data", "validation_share"): ("number, at least 0, below 0.5", "0.05"),
    ("evaluate.mmlu", "style"): ("letters | continuation", "letters"),
    ("students.NAME", "quantize"): ("true or false or list of text", "true"),
    ("students.NAME", "rounds"): ("list of sections or null", "null"),
    ("students.NAME.rounds[].prune", "num_layers"): ("whole number, at least 1", "null"),
    ("quantize[]", "seq_length"): ("whole number, at least 8", "512"),
    ("", "quantize"): ("list of sections", "[]"),
}


@pytest.mark.parametrize("place", KEYS, ids=[f"{where}.{key}" for where, key in KEYS])
def test_a_key_has_its_bounds_and_default(place: tuple[str, str]) -> None:
    where, name = place
    (section,) = [each for each in reference() if each.where == where]
    (key,) = [each for each in section.keys if each.name == name]
    assert (key.kind, key.default) == KEYS[place]


def test_one_section_can_be_asked_for() -> None:
    assert next(each.where for each in sections("students.NAME.prune")) == "students.NAME.prune"
    assert {each.where.partition(".")[0] for each in sections("distill")} == {"distill"}
    with pytest.raises(ValueError, match="a recipe has no section distil; choose one of data"):
        sections("distil")


@pytest.mark.parametrize("preset", names())
def test_shipped_recipes_fit_the_editors_schema(preset: str) -> None:
    CHECK.validate(yaml_text.parse((PRESETS / f"{preset}.yaml").read_text()))
    CHECK.validate(load(preset).model_dump(mode="json"))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("extends: demo\nquantize: [fp8, {format: nvfp4}]\nstudents: {width: null}\ndistill: {steps: 3}\n", True),
        ("extends: demo\ndistill: {schedule: wsd}\nteacher: {schedule: {name: wsd, decay_share: 0.2}}\n", True),
        ("extends: demo\ndistill: {schedule: fast}\n", False),
        ("extends: demo\ndistill: {optimizer: muon}\nevaluate: {engine: vllm==0.32.0}\n", True),
        ("extends: demo\ndistill: {optimizer: sgd}\n", False),
        ("extends: demo\nevaluate: {engine: sglang==0.5}\n", False),
        ("extends: demo\ndata: {engine: vllm}\n", False),
        ("extends: demo\nquantize: [fp9]\n", False),
        ("extends: demo\ndistil: {steps: 3}\n", False),
        ("extends: demo\ndistill: {steps: -3}\n", False),
        ("students: {Depth: {}}\n", False),
    ],
)
def test_the_schema_knows_what_a_file_may_say(text: str, fits: bool) -> None:
    assert CHECK.is_valid(yaml.safe_load(text)) == fits


def test_the_schema_is_plain_json(tmp_path: Path) -> None:
    written: dict[str, Any] = json.loads(json.dumps(SCHEMA))
    jsonschema.Draft202012Validator.check_schema(written)
    assert "required" not in json.dumps(written)
