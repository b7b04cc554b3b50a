"""Settings of filters and personal data: bounds, mistakes in one sentence, and sources of a blend."""

from __future__ import annotations

from typing import Any

import pytest

from conf.filters import Pii
from conf.load import RecipeError, load
from conf.stages.data import DataConfig
from conf.stages.records import RecordsConfig
from tasks.store.store import key_of
from tests.fixtures.flow import RECIPE

PLAIN = DataConfig(source="world")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "data.filter={}",
            "data.filter has no rules; name some of language, repetition, gopher, c4, fineweb, as in {gopher: {}}",
        ),
        ("data.filter={gophers: {}}", "data.filter.gophers is not a setting; the nearest known key is gopher"),
        (
            "data.filter={gopher: {min_word: 3}}",
            "data.filter.gopher.min_word is not a setting; the nearest known key is",
        ),
        ("data.filter={gopher: {min_words: 0}}", "data.filter.gopher.min_words is 0; it must be at least 1"),
        (
            "data.filter={fineweb: {max_short_lines: 1.5}}",
            "data.filter.fineweb.max_short_lines is 1.5; it must be at most 1",
        ),
        ("data.filter={gopher: {}, action: delete}", "data.filter.action is 'delete'; it must be remove or report"),
        (
            "data.filter={gopher: {min_words: 60, max_words: 50}}",
            "min_words is 60, above max_words 50; no text has both",
        ),
        (
            "data.filter={gopher: {stop_words: [der, die], min_stop_words: 3}}",
            "min_stop_words is 3, but there are 2 different stop_words; choose at most as many",
        ),
        (
            "data.pii={emails: false, ips: false, phones: false, ibans: false, cards: false}",
            "data.pii: all kinds are false, so nothing is looked for; set one to true or leave the section out",
        ),
        ("data.pii={names: true}", "data.pii.names is not a setting"),
    ],
)
def test_a_mistake_is_one_sentence_at_load(override: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(str(RECIPE), [override])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


WHOLE = "terminal_punctuation: false, min_line_words: null, max_word_characters: null, javascript: false, policy: false"


def of_records(settings: str) -> list[str]:
    return [f"records={{source: world, {settings}}}"]


def test_rules_that_edit_are_refused_for_records() -> None:
    with pytest.raises(RecipeError) as error:
        load(str(RECIPE), of_records(f"filter: {{c4: {{{WHOLE}}}}}"))
    assert (
        "records.filter.c4 would take something out of texts, but a conversation stays whole or is left out; set"
        " citations: false, or leave c4 out"
    ) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match="set terminal_punctuation: false, min_line_words: null, max_word_char"):
        load(str(RECIPE), of_records("filter: {c4: {}}"))
    recipe = load(str(RECIPE), of_records(f"filter: {{c4: {{{WHOLE}, citations: false}}}}"))
    assert recipe.records and recipe.records.filter and recipe.records.filter.c4


def test_records_have_the_mistakes_of_filters_too() -> None:
    for settings, told in (
        ("filter: {}", "records.filter has no rules; name some of language, repetition"),
        ("filter: {language: {keep: [nb]}}", "'nb' is no language that is told apart; the nearest is no"),
        ("deduplicate: {min_jaccard: 2}", "records.deduplicate.min_jaccard is 2; it must be at most 1"),
    ):
        with pytest.raises(RecipeError) as error:
            load(str(RECIPE), of_records(settings))
        assert told in str(error.value)


def test_records_without_filters_keep_their_key() -> None:
    plain = RecordsConfig(source="world")
    assert not {"filter", "pii", "deduplicate"} & plain.identity().keys()
    assert key_of("records", plain, {}) != key_of("records", plain.model_copy(update={"pii": Pii()}), {})


def test_a_range_of_one_value_is_a_range() -> None:
    recipe = load(str(RECIPE), ["data.filter={gopher: {min_words: 50, max_words: 50}}"])
    assert recipe.data.filter and recipe.data.filter.gopher and recipe.data.filter.gopher.max_words == 50


@pytest.mark.parametrize(
    "settings",
    [
        {"filter": {"gopher": {}}},
        {"filter": {"gopher": {}, "action": "report"}},
        {"filter": {"gopher": {"min_words": 49}}},
        {"pii": {}},
        {"pii": {"cards": False}},
    ],
)
def test_a_setting_changes_the_key_and_its_absence_does_not(settings: dict[str, Any]) -> None:
    with_it = DataConfig.model_validate({"source": "world"} | settings)
    assert key_of("data", with_it, {}) != key_of("data", PLAIN, {})
    assert key_of("data", PLAIN.model_copy(update={"filter": None, "pii": None}), {}) == key_of("data", PLAIN, {})
