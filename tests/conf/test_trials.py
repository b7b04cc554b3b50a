"""The recipe of a trial: a point laid over a recipe, and fresh seeds."""

from __future__ import annotations

from typing import Any

import pytest

from conf.load import load, read
from conf.trials import described, nested, reseeded, scored_on, shown, trial_recipe
from tests.fixtures.flow import RECIPE


def test_a_dotted_key_is_nested() -> None:
    assert nested("a.b.c", 1) == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0.123456, "0.1235"),
        (3e-5, "3e-05"),
        (12345, "12345"),
        ("a", "a"),
    ],
)
def test_values_are_short_and_as_in_yaml(value: Any, text: str) -> None:
    assert shown(value) == text
    assert described({"one": value, "two": 2}) == f"one={text}, two=2"


def test_a_point_is_laid_over_the_recipe() -> None:
    values = read(str(RECIPE))
    recipe = trial_recipe(values, {"distill.lr": 0.5})
    assert recipe.distill and recipe.distill.lr == 0.5
    assert recipe.distill.seed == load(str(RECIPE)).distill.seed  # type: ignore[union-attr]


@pytest.mark.parametrize(("point", "taught"), [({"distill.lr": 0.5}, 0), ({"teacher.lr": 0.5}, 1)])
def test_fresh_seeds_are_of_what_the_point_teaches(point: dict[str, Any], taught: int) -> None:
    values, before = read(str(RECIPE)), load(str(RECIPE))
    for seed in (0, 1, 3):
        recipe = trial_recipe(values, point, seed)
        assert recipe.distill and before.distill and recipe.distill.seed == before.distill.seed + seed
        assert recipe.teacher.seed == before.teacher.seed + seed * taught


def test_students_and_rounds_get_the_same_fresh_seeds() -> None:
    rounds = "{rounds: [{prune: {num_layers: 2}, distill: {seed: 5}}, {prune: {ffn_hidden_size: 64}}]}"
    recipe = load(str(RECIPE), [f"students.twice={rounds}", "students.depth.distill={seed: 7}"])
    fresh = reseeded(recipe, 2)
    assert fresh.students["depth"].distill.seed == 9  # type: ignore[union-attr]
    first, second = fresh.students["twice"].rounds or ()
    assert first.distill and first.distill.seed == 7
    assert second.distill is None, "it learns as the recipe says"
    assert fresh.teacher == recipe.teacher
    assert reseeded(recipe, 2, teacher=True).teacher.seed == recipe.teacher.seed + 2


def test_models_are_scored_on_the_named_split() -> None:
    assert scored_on(load(str(RECIPE)), "val").evaluate.split == "val"
