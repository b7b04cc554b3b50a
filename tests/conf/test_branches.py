"""Shared stable phases: which students share one, its parts and their names, and the steps that are saved."""

from __future__ import annotations

import pytest

from conf.branches import branch, family, saved, stable_end, trunk_label, trunks
from conf.load import load
from conf.recipe import Recipe
from conf.stages.trunk import stable_trunk
from tests.fixtures.flow import RECIPE

WSD = ("distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}")


def recipe(*overrides: str) -> Recipe:
    return load(str(RECIPE), [*WSD, *overrides])


def test_one_member_saves_nothing_and_nothing_is_said() -> None:
    alone = recipe("students.depth.branches=[]")
    assert family(alone, "depth") == ("depth",)
    assert saved(alone) == []


def test_two_members_are_told_the_steps_they_save() -> None:
    # Stable for 16 of 20 steps and 8 of 10: 8 are made once.
    told = "depth, depth-10 share the stable phase of depth: 22 steps instead of 30, 8 saved"
    assert saved(recipe("students.depth.branches=[10]")) == [told]


def test_only_students_of_one_base_are_a_family() -> None:
    both = recipe("students.depth.branches=[10]")
    assert family(both, "depth") == family(both, "depth-10") == ("depth", "depth-10")
    assert family(both, "width") == ()
    assert [branch(both, "width"), trunks(both, "width")] == [both.distill_of("width"), []]


def test_a_trunk_goes_on_where_the_one_before_ends() -> None:
    three = recipe("students.depth.branches=[5, 10]")
    parts = {name: [(trunk.begun, trunk.until) for trunk in trunks(three, name)] for name in family(three, "depth")}
    assert parts == {"depth": [(0, 4), (4, 8), (8, 16)], "depth-5": [(0, 4)], "depth-10": [(0, 4), (4, 8)]}
    assert [each.begun for name in parts if (each := branch(three, name))] == [16, 4, 8]


def test_a_stable_phase_of_one_step_is_a_trunk() -> None:
    short = recipe("distill.schedule.decay_share=0.8", "students.depth.branches=[5]")
    assert [(trunk.begun, trunk.until) for trunk in trunks(short, "depth")] == [(0, 1), (1, 4)]


@pytest.mark.parametrize(("share", "end"), [(0.2, 16), (0.5, 10)])
def test_the_stable_phase_ends_where_the_decay_begins(share: float, end: int) -> None:
    assert stable_end(recipe(f"distill.schedule.decay_share={share}"), "depth") == end


def test_a_schedule_without_a_stable_phase_has_none() -> None:
    assert stable_end(load(str(RECIPE), ["distill.schedule=cosine"]), "depth") == 0


def test_a_trunk_is_named_after_its_base_seed_and_end() -> None:
    given = recipe("students.depth.branches=[10]")
    config = given.distill_of("depth")
    assert config
    shifted = config.model_copy(update={"seed": config.seed + 2})
    names = [trunk_label(given, name, stable_trunk(config, 8)) for name in ("depth", "depth-10")]
    assert names == ["trunk-depth-8", "trunk-depth-8"]
    assert trunk_label(given, "depth-10", stable_trunk(shifted, 8)) == "trunk-depth-s3-8"
