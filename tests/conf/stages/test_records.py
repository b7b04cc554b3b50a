"""What the records of a recipe may be: which fields, and filters that leave a conversation whole."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.stages.records import RecordsConfig


def records(**given: Any) -> RecordsConfig:
    return RecordsConfig.model_validate({"source": "records.jsonl"} | given)


@pytest.mark.parametrize("fields", [("prompt_field",), ("response_field",)])
def test_one_field_alone_is_refused(fields: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"only one of records\.prompt_field and"):
        records(**dict.fromkeys(fields, "text"))


def test_both_fields_or_neither_are_taken() -> None:
    assert records().prompt_field is None
    assert records(prompt_field="ask", response_field="say").response_field == "say"


def test_a_filter_may_not_cut_a_conversation() -> None:
    with pytest.raises(ValidationError, match=r"c4 would take something out of texts, .*; set \w+.*, or leave c4 out"):
        records(filter={"c4": {}})


WHOLE: dict[str, Any] = {"terminal_punctuation": False, "min_line_words": None, "max_word_characters": None}
WHOLE |= {"javascript": False, "policy": False, "citations": False}


@pytest.mark.parametrize("filter_", [None, {"gopher": {}}, {"c4": WHOLE}])
def test_filters_of_whole_records_are_taken(filter_: dict[str, Any] | None) -> None:
    assert (records(filter=filter_).filter is None) == (filter_ is None)
