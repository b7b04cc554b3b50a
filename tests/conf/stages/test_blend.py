"""Corpora of a blend: how each is read, their weights, and the settings that do not go together."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from conf.filters import Filter
from conf.stages.blend import BlendConfig, BlendSource
from conf.stages.data import DataConfig
from tests.fixtures.stages import refused


def stage(until: float, **weights: float) -> dict[str, Any]:
    return {"until": until, "weights": weights}


def settings(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Of data, code and math."""
    sources = {name: {"source": f"{name}.txt"} for name in ("code", "math")}
    return {"sources": sources, "stages": stages} | more


def blend(*stages: dict[str, Any], **more: Any) -> BlendConfig:
    return BlendConfig.model_validate(settings(*stages, **more))


THREE = (stage(0.5, data=85, code=12, math=3), stage(0.9, data=3, code=1), stage(1, math=1))
NEW = stage(1, code=1, math=1)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "the recipe's own": (
        {"sources": {"data": {"source": "a.txt", "weight": 1}}},
        "blend.sources.data has the name of the recipe's own corpus, whose weight is blend.weight",
    ),
    "weighed twice": (
        settings(NEW, sources={"code": {"source": "a", "weight": 2}, "math": {"source": "b"}}),
        "blend.sources.code.weight is 2 but blend.stages has the weights of each stage; remove it",
    ),
    "own weighed twice": (
        settings(NEW, weight=2),
        "blend.weight is 2 but blend.stages has the weights of each stage, where it is called data; remove it",
    ),
    "other tokens": (
        settings(stage(9000, code=1, math=1), tokens=8999),
        "blend.tokens is 8,999 but the last of blend.stages ends at 9,000 tokens; remove blend.tokens",
    ),
    "no weight at all": (settings(), "blend.sources.code.weight is missing; set it, or set blend.stages"),
    "one without": (
        {"sources": {"a": {"source": "a", "weight": 1}, "b": {"source": "b"}}},
        "blend.sources.b.weight is missing; set it, or set blend.stages",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_blend_that_cannot_be_is_refused(what: str) -> None:
    refused(BlendConfig, *REFUSED[what])


def test_a_whole_mix_has_the_shares_of_its_stages() -> None:
    made = blend(*THREE)
    assert made.untils == (0.5, 0.9, 1.0)
    assert made.ends == [Fraction(1, 2), Fraction(9, 10), 1]
    expected = {"code": 0.06 + 0.1, "data": 0.425 + 0.3, "math": 0.015 + 0.1}
    assert list(made.weights) == ["code", "data", "math"]
    assert made.weights == pytest.approx(expected)
    in_counts = blend(stage(500, **THREE[0]["weights"]), stage(900, data=3, code=1), stage(1000, math=1))
    assert in_counts.weights == pytest.approx(expected)


def test_the_tokens_of_a_mix() -> None:
    assert blend(*THREE).total is None
    assert blend(*THREE, tokens=70).total == 70
    last = stage(900, code=1, math=1)
    assert blend(last).total == blend(last, tokens=900).total == 900


def test_weights_are_shares_of_their_sum() -> None:
    alone = BlendConfig.model_validate({"sources": {"a": {"source": "a", "weight": 1}}, "weight": 3})
    assert alone.weights == {"a": 0.25, "data": 0.75} and alone.total is None
    assert blend(NEW).weights == {"code": 0.5, "data": 0, "math": 0.5}
    assert blend(stage(2, code=1), stage(3, math=1)).total == 3


def test_the_teacher_s_text_is_one_of_the_sources() -> None:
    assert blend(NEW).written is None
    sources = {"code": {"source": "a"}, "math": {"source": "written"}}
    assert blend(NEW, sources=sources).written == "math"


@pytest.mark.parametrize("source", ["a.txt", ["a.txt", "world"]])
def test_a_corpus_is_one_source_or_several(source: str | list[str]) -> None:
    names = BlendSource.model_validate({"source": source}).sources
    assert [name.rpartition("/")[2] for name in names] == ([source] if isinstance(source, str) else source)


def test_a_corpus_is_training_text_read_its_own_way() -> None:
    data = DataConfig.model_validate({"source": "world", "seed": 7, "ranks": 4, "text_field": "body", "pii": {}})
    read = BlendSource.model_validate({"source": "world", "weight": 2, "join": "file", "repair": True}).read_as(data)
    assert (read.join, read.repair, read.text_field) == ("file", True, "text")
    assert (read.seed, read.ranks, read.pii) == (7, 4, data.pii)
    assert (read.validation_share, read.test_share) == (0, 0)
    counted = BlendSource.model_validate({"source": "world", "max_documents": 3}).read_as(data)
    assert (counted.max_documents, counted.ranks) == (3, 1), "documents are counted in one order"


@pytest.mark.parametrize(
    ("given", "filter_"),
    [
        ({}, Filter.model_validate({"gopher": {}})),
        ({"filter": {"fineweb": {}}}, Filter.model_validate({"fineweb": {}})),
        ({"filter": {}}, None),
    ],
)
def test_a_corpus_is_filtered_as_data_or_by_itself(given: dict[str, Any], filter_: Filter | None) -> None:
    data = DataConfig.model_validate({"source": "world", "filter": {"gopher": {}}})
    read = BlendSource.model_validate({"weight": 1, "source": "a.txt"} | given).read_as(data)
    assert read.filter == filter_
    assert DataConfig.model_validate(read.model_dump(mode="json")) == read, "as its job reads it"
