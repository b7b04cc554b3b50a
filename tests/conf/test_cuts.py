"""A student's cuts in order, and what a round of a search teaches."""

from __future__ import annotations

from typing import Any

import pytest

from conf.cuts import check_names, cuts, prune_of, round_of
from conf.load import load
from conf.shape import Shape
from conf.stages.search import Halving, SearchConfig

TINY = "tests/recipes/tiny.yaml"
ROUNDS = (
    "students.depth={prune: null, rounds: [{prune: {drop_layers: [2]}, teacher: original}, {prune: {hidden_size: 16}}]}"
)


def teacher(recipe: Any) -> Shape:
    shape = recipe.teacher.shape
    assert isinstance(shape, Shape)
    return shape


def test_a_student_is_cut_once_by_default() -> None:
    recipe = load(TINY)
    (cut,) = cuts(recipe, "depth", teacher(recipe))
    assert (cut.where, cut.distill_at, cut.last) == ("students.depth.prune", "distill", True)
    assert (cut.before, cut.teacher, cut.config) == (teacher(recipe), teacher(recipe), recipe.distill_of("depth"))


def test_a_candidate_of_fewer_groups_alone_needs_no_ranking() -> None:
    """As a recipe that names its sizes has none, so that both are one artifact."""
    search = SearchConfig(target_params=0.9, ranking="magnitude", axes=("num_query_groups", "num_layers"))
    of = {"num_layers": 6, "num_query_groups": 4}
    alone = prune_of(search, of | {"num_query_groups": 2}, of)
    assert (alone.sizes, alone.ranked, alone.ranking) == ({"num_query_groups": 2}, {}, "activation")
    both = prune_of(search, {"num_layers": 4, "num_query_groups": 2}, of)
    assert (both.sizes, both.ranking) == ({"num_layers": 4, "num_query_groups": 2}, "magnitude")


def test_a_round_cuts_what_the_one_before_left() -> None:
    recipe = load(TINY, ["students.width=null", ROUNDS])
    first, second = cuts(recipe, "depth", teacher(recipe))
    assert second.before == first.after
    assert (first.last, second.last) == (False, True)
    assert (first.ranked, second.ranked) == (False, True)
    assert first.teacher == teacher(recipe)
    assert (first.where, second.where) == ("students.depth.rounds.1.prune", "students.depth.rounds.2.prune")
    with pytest.raises(ValueError, match=r"rounds\.2\.prune\.hidden_size.*the student of round 1"):
        broken = load(TINY, ["students.width=null", ROUNDS])
        wider = broken.students["depth"].cuts[1].prune.model_copy(update={"hidden_size": 4096})
        round_ = broken.students["depth"].cuts[1].model_copy(update={"prune": wider})
        student = broken.students["depth"].model_copy(update={"rounds": (broken.students["depth"].cuts[0], round_)})
        cuts(broken.model_copy(update={"students": {"depth": student}}), "depth", teacher(broken))


def distill(**settings: Any) -> Any:
    config = load(TINY).distill
    assert config is not None
    return type(config).model_validate(config.model_dump() | {"steps": 100, "warmup_steps": 20} | settings)


@pytest.mark.parametrize(("number", "steps"), [(0, 10), (1, 20), (2, 40)])
def test_each_round_doubles_its_steps(number: int, steps: int) -> None:
    config = round_of(distill(seed=5), Halving(top_k=4), number)
    assert (config.steps, config.warmup_steps, config.seed) == (steps, 20 * steps // 100, 5 + number)
    assert (config.keep, config.patience, config.evaluation, config.offline) == ("last", None, None, False)


def test_the_first_rounds_steps_can_be_set() -> None:
    assert round_of(distill(), Halving(top_k=4, steps=7), 1).steps == 14
    assert round_of(distill(steps=5, warmup_steps=0), Halving(top_k=4), 0).steps == 1, "a tenth, but at least one"


def test_what_reaches_further_than_a_round_is_left_out() -> None:
    settings: dict[str, Any] = {"spikes": {"window": 15}, "average": {"kind": "mean", "last": 16}, "export": "average"}
    short, long = (round_of(distill(**settings), Halving(top_k=4), number) for number in (0, 1))
    assert (short.steps, short.spikes, short.average, short.export) == (10, None, None, "weights")
    assert (long.steps, long.export) == (20, "average")
    assert long.spikes and long.spikes.window == 15


def test_a_candidate_is_the_cut_a_recipe_would_name() -> None:
    search = SearchConfig(target_params=0.5, seed=3)
    config = prune_of(search, {"num_layers": 4, "hidden_size": 64}, {"num_layers": 6, "hidden_size": 64})
    assert (config.num_layers, config.hidden_size, config.seed) == (4, None, 3)


@pytest.mark.parametrize(("name", "refused"), [("depth-r1", True), ("depth-r12-x", True), ("depth-rest", False)])
def test_a_student_cannot_have_a_rounds_name(name: str, refused: bool) -> None:
    recipe = load(TINY, ["students.width=null", ROUNDS])
    named = recipe.model_copy(update={"students": recipe.students | {name: recipe.students["depth"]}})
    if not refused:
        check_names(named)
        return
    with pytest.raises(ValueError, match="has the name of a round"):
        check_names(named)
