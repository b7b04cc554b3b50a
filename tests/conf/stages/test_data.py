"""Settings of a corpus: what is planted in the invented world, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest

from conf.stages.data import MOST_RANKS, DataConfig, Soil
from tests.fixtures.stages import refused


def test_dirt_is_a_share_of_the_documents() -> None:
    kinds = dict.fromkeys(Soil.model_fields, 0.0)
    planted = Soil.model_validate(kinds | {"spam": 0.2, "foreign": 0.004}).planted(200)
    assert planted == kinds | {"spam": 40, "foreign": 1}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ranks": 0}, "greater than or equal to 1"),
        ({"ranks": 1001}, "less than or equal to 1000"),
        (
            {"ranks": 2, "max_documents": 9},
            "ranks is 2 and max_documents 9, which counts documents in one order; set ranks to 1 or leave max_docu",
        ),
        ({"filter": {}}, "data.filter has no rules"),
    ],
)
def test_a_corpus_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(DataConfig, {"source": "world"} | settings, told)


@pytest.mark.parametrize(
    "settings", [{"ranks": MOST_RANKS}, {"ranks": 1, "max_documents": 9}, {"filter": {"gopher": {}}}, {"filter": None}]
)
def test_what_is_just_within_is_taken(settings: dict[str, Any]) -> None:
    assert DataConfig.model_validate({"source": "world"} | settings)
