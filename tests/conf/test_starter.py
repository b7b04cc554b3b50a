"""The recipe that a model and a text start with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf import starter as module
from conf.shape import Shape
from conf.starter import starter
from conf.yaml_text import parse


def written(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> dict[str, Any]:
    """The recipe for a model of this shape."""
    sizes = {"num_layers": 8, "hidden_size": 64, "ffn_hidden_size": 128, "num_attention_heads": 4}
    sizes |= {"num_query_groups": 2, "vocab_size": 512, "max_position_embeddings": 4096}
    monkeypatch.setattr(module, "_shape", lambda model: Shape.model_validate(sizes | changed))
    return parse(starter("owner/name", "owner/texts"))


@pytest.mark.parametrize(("layers", "kept"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (9, 7), (32, 24)])
def test_three_quarters_of_the_layers_stay(layers: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    students = written(monkeypatch, num_layers=layers)["students"]
    assert students["depth"]["prune"] == {"num_layers": kept}, "and at least one goes where there are several"


@pytest.mark.parametrize(("width", "kept"), [(16, 12), (31, 23), (32, 16), (64, 48), (100, 64), (11008, 8256)])
def test_three_quarters_of_the_width_stay(width: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    students = written(monkeypatch, ffn_hidden_size=width)["students"]
    assert students["width"]["prune"] == {"ffn_hidden_size": kept}, "in sixteens from 32 on"


@pytest.mark.parametrize(("longest", "length"), [(80, 80), (1023, 1023), (1024, 1024), (1025, 1024), (40960, 1024)])
def test_sequences_are_as_long_as_the_model_reads(longest: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, max_position_embeddings=longest)["distill"]["seq_length"] == length


def test_a_hub_models_students_are_searched_for() -> None:
    recipe = parse(starter("owner/name", "owner/texts"))
    assert recipe["students"] == {"small": {"search": {"target_params": 0.75}}}
    assert (recipe["teacher"]["model"], recipe["data"]["source"]) == ("owner/name", "owner/texts")
    assert recipe["description"] == "name made smaller, distilled on texts and quantized."
    assert recipe["distill"]["seq_length"] == 1024 and recipe["quantize"] == ["fp8"]
    assert recipe["evaluate"] == {"mmlu": None} and recipe["data"]["test_share"] == 0.05


@pytest.mark.parametrize("model", ["name", "./name", "/a/b", "~/name", "a/b/c", ".a/b"])
def test_what_is_no_model_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="is neither a model directory nor a hub id owner/name; check the path"):
        starter(model, "owner/texts")


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"id": "123", "body": "longer text"}, "body"),
        ({"text": "x", "body": "longer text"}, None),
        ({"number": 1, "list": ["a long text"]}, None),
        ({"a": "same", "b": "size"}, "a"),
        (["a list"], None),
    ],
)
def test_the_longest_text_of_a_record_is_its_text(record: Any, field: str | None, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(record) + "\n" + json.dumps({"other": "x" * 99}) + "\n")
    assert module._text_field(str(file)) == field
    data = parse(starter("owner/name", str(file)))["data"]
    assert data.get("text_field") == field


def test_only_json_lines_have_fields(tmp_path: Path) -> None:
    for name, text in (("a.txt", '{"body": "x"}\n'), ("b.jsonl", "not json\n")):
        (tmp_path / name).write_text(text)
        assert module._text_field(str(tmp_path / name)) is None
    (tmp_path / "c.jsonl").mkdir()
    assert module._text_field(str(tmp_path / "c.jsonl")) is None
