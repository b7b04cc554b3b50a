"""Validation errors in one sentence: which setting, its value, and what it must be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from conf.base import Config
from conf.patterns import NAME
from conf.wording import choices, model_in, place, sentence


class Part(Config):
    size: int = Field(ge=1)
    share: float = Field(default=0.5, gt=0, lt=1)


class Whole(Config):
    parts: tuple[Part, ...] = ()
    named: dict[str, Part] = Field(default_factory=dict)
    other: Part | None = None
    kind: Literal["alpha", "beta", "gamma"] = "alpha"
    pair: Literal["on", "off"] = "on"
    name: Annotated[str, Field(pattern=NAME)] = "n"
    title: str = Field(default="t", min_length=1)
    code: str = Field(default="cc", min_length=2, max_length=3)
    flag: bool = False
    key_env: Annotated[str, Field(pattern="^[A-Z_]+$")] = "K"
    either: int | tuple[int, int] = 1
    even: int = 2

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("even must be even" if value > 2 else "it is odd")
        return value


SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "bound": ({"parts": [{"size": 1}, {"size": 0}]}, "parts.2.size is 0; it must be at least 1"),
    "open": ({"other": {"size": 1, "share": 0.0}}, "other.share is 0.0; it must be above 0"),
    "below": ({"other": {"size": 1, "share": 1.0}}, "other.share is 1.0; it must be below 1"),
    "type": ({"named": {"a": {"size": "many"}}}, "named.a.size is 'many'; it must be a whole number"),
    "null": ({"flag": None}, "flag is null; it must be true or false"),
    "truth": ({"name": True}, "name is true; it must be text; put it in quotes"),
    "falsehood": ({"name": False}, "name is false; it must be text; put it in quotes"),
    "section": ({"named": 3}, "named is 3; it must be a section of `key: value`"),
    "list": ({"parts": 3}, "parts is 3; it must be a list, as in [a, b]"),
    "pattern": (
        {"name": "A b"},
        "name is 'A b'; it must be up to 63 small letters, digits and dashes, starting with a letter or digit",
    ),
    "choice": ({"kind": "zzz"}, "kind is 'zzz'; it must be alpha, beta or gamma"),
    "near": ({"kind": "alpa"}, "kind is 'alpa'; it must be alpha, beta or gamma; did you mean alpha?"),
    "two": ({"pair": "onn"}, "pair is 'onn'; it must be on or off"),
    "empty": ({"title": ""}, "title is ''; it must not be empty"),
    "short": ({"code": "c"}, "code is 'c'; it must be text of at least 2 characters"),
    "long": ({"code": "cccc"}, "code is 'cccc'; it must be text of at most 3 characters"),
    "unknown": ({"other": {"size": 1, "shere": 1}}, "other.shere is not a setting; the nearest known key is share"),
    "unknown first": ({"flag": None, "titel": 1}, "titel is not a setting; the nearest known key is title"),
    "missing": ({"other": {}}, "other.size is missing; set it"),
    "missing twice": ({"other": {}, "named": {"a": {}}}, "named.a.size is missing; set it"),
    "own": ({"even": 1}, "even: it is odd"),
    "named": ({"even": 3}, "even must be even"),
    "union": ({"either": "x"}, "either is 'x'; it must be a whole number, or a list, as in [a, b]"),
}


@pytest.mark.parametrize(("given", "words"), SENTENCES.values(), ids=SENTENCES)
def test_an_error_is_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate(given)
    assert sentence(raised.value, Whole) == words


def test_a_value_where_a_variable_is_named_is_not_shown() -> None:
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate({"key_env": "hunter2"})
    told = sentence(raised.value, Whole)
    assert told.startswith("key_env is not the name of an environment variable") and "hunter2" not in told


def test_all_missing_keys_of_one_section_are_named() -> None:
    class Three(Config):
        a: int
        b: int
        c: int

    with pytest.raises(ValidationError) as raised:
        Three.model_validate({})
    assert sentence(raised.value, Three) == "the recipe lacks a, b and c; set them"


def test_a_long_value_is_cut_at_80_characters() -> None:
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate({"kind": "x" * 200})
    assert sentence(raised.value, Whole).startswith(f"kind is '{'x' * 79}; it must be")


def test_a_place_counts_from_one_and_omits_members_of_unions() -> None:
    assert place(("a", 0, "int", "b", "tuple[int, int]", 2)) == "a.1.b.3"
    assert place(()) == ""


def test_a_config_is_found_inside_an_annotation() -> None:
    assert model_in(dict[str, Part]) is Part
    assert model_in(tuple[Part, ...] | None) is Part
    assert model_in(int | None) is None


@pytest.mark.parametrize(
    ("count", "said"),
    [(12, "choose one of m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11"), (13, "the nearest of its 13 is m12")],
)
def test_many_names_are_not_listed(count: int, said: str) -> None:
    assert choices("n12", [f"m{number}" for number in range(count)]) == said
