"""Pages that nobody wants a model to learn from: how many lines and sentences they have, and of which kinds."""

from __future__ import annotations

import random

import pytest

from jobs.world import dirt


@pytest.mark.parametrize(
    ("kind", "lines"), [("spam", {2, 3, 4}), ("boilerplate", {1, 2, 3, 4})], ids=["spam", "boilerplate"]
)
def test_dirt_has_a_few_lines(kind: str, lines: set[int]) -> None:
    made = [dirt.MAKERS[kind](random.Random(seed)) for seed in range(200)]
    assert {len(text.split("\n")) for text in made} == lines
    code = sum("function show" in text for text in made)
    assert code in (range(70, 131) if kind == "boilerplate" else [0])
    assert {text.count("function show") for text in made} <= {0, 1, 2, 3}


def test_foreign_dirt_has_two_to_four_sentences() -> None:
    made = [dirt.MAKERS["foreign"](random.Random(seed)) for seed in range(200)]
    counts = {sum(one in text for group in dirt.FOREIGN.values() for one in group) for text in made}
    assert counts == {2, 3, 4}
    languages = {name for text in made for name, group in dirt.FOREIGN.items() if any(one in text for one in group)}
    assert languages == set(dirt.FOREIGN)


def test_near_copies_are_of_three_kinds() -> None:
    text = "The mill stands by the river."
    made = {dirt.nearly(text, random.Random(seed)) for seed in range(200)}
    cut, shouted = "The mill stands by the...", text.upper()
    assert made == {cut, shouted, *(f"{text}\n{tail}" for tail in dirt.TAILS)}
