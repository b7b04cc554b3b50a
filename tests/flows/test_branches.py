"""Students that share a stable phase: what is trained once, under which keys, and what a plan says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.branches import saved
from conf.load import load, validate
from conf.stages.trunk import stable_trunk
from flows.plan import PlannedStage, plan
from flows.sizing import estimate
from tests.fixtures.flow import RECIPE

WSD = ["distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}", "students.width=null"]
BRANCHES = [*WSD, "students.depth.branches=[5, 10]"]


def planned(root: Path, *overrides: str) -> dict[str, PlannedStage]:
    return {stage.label: stage for stage in plan(load(str(RECIPE), list(overrides)), root)}


def test_each_stable_phase_is_trained_once(tmp_path: Path) -> None:
    stages = planned(tmp_path, *BRANCHES)
    trunks = {label: stage.config for label, stage in stages.items() if stage.stage == "trunk"}
    assert {label: (config.begun, config.until) for label, config in trunks.items()} == {  # type: ignore[attr-defined]
        "trunk-depth-4": (0, 4),
        "trunk-depth-8": (4, 8),
        "trunk-depth-16": (8, 16),
    }
    assert stages["trunk-depth-8"].inputs["trunk"] == stages["trunk-depth-4"].key
    recipe = load(str(RECIPE), BRANCHES)
    steps = {label: estimate(recipe, stage).steps for label, stage in stages.items() if "depth" in label}
    made = {"distill-depth": 4, "distill-depth-5": 1, "distill-depth-10": 2}
    assert steps | made | {"trunk-depth-4": 4, "trunk-depth-8": 4, "trunk-depth-16": 8} == steps
    assert saved(recipe) == [
        "depth, depth-5, depth-10 share the stable phase of depth: 23 steps instead of 35, 12 saved"
    ]


def test_a_branch_has_the_key_of_an_undivided_run(tmp_path: Path) -> None:
    branches = planned(tmp_path, *BRANCHES)
    undivided = planned(tmp_path, *WSD)
    assert branches["distill-depth"].key == undivided["distill-depth"].key
    assert not any(stage.stage == "trunk" for stage in undivided.values())
    alone = planned(tmp_path, *WSD, "distill.steps=5")
    assert branches["distill-depth-5"].key == alone["distill-depth"].key


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (["distill.schedule.decay_share=0.3", "students.depth.branches=[5]"], False),
        (["distill.schedule.decay=minus_sqrt"], True),
        (["distill.min_lr=0"], True),
        (["distill.steps=40", "students.depth.branches=[5, 20]"], True),
        (["distill.lr=2e-3"], False),
        (["distill.seed=5"], False),
    ],
)
def test_a_trunk_knows_nothing_of_what_comes_later(tmp_path: Path, overrides: list[str], same: bool) -> None:
    key = planned(tmp_path, *BRANCHES)["trunk-depth-4"].key
    changed = planned(tmp_path, *BRANCHES, *overrides)
    assert (key in {stage.key for stage in changed.values()}) is same


def test_a_trunk_holds_no_mean_that_begins_later() -> None:
    config = load(str(RECIPE), [*WSD, "distill.average={kind: mean, last: 3}", "distill.export=average"]).distill
    plain = load(str(RECIPE), WSD).distill
    assert config and plain
    assert stable_trunk(config, 16).identity() == stable_trunk(plain, 16).identity()


def test_a_longer_run_goes_on_from_what_is_there(tmp_path: Path) -> None:
    before = planned(tmp_path, *WSD, "students.depth.branches=[]")
    longer = planned(tmp_path, *WSD, "distill.steps=40", "students.depth.branches=[20]")
    assert longer["trunk-depth-16"].key == before["trunk-depth-16"].key
    assert longer["distill-depth-20"].key == before["distill-depth"].key
    assert longer["trunk-depth-32"].config.begun == 16  # type: ignore[attr-defined]


def test_a_constant_rate_has_branches_too(tmp_path: Path) -> None:
    constant = ["distill.schedule=constant", "distill.min_lr=1e-3"]
    stages = planned(tmp_path, *BRANCHES, "distill.schedule=null", *constant)
    assert {label for label in stages if label.startswith("trunk")} == {f"trunk-depth-{end}" for end in (4, 9, 19)}


def test_seeds_have_trunks_of_their_own(tmp_path: Path) -> None:
    stages = planned(tmp_path, *BRANCHES, "students.depth.seeds=2")
    assert stages["trunk-depth-s2-4"].key != stages["trunk-depth-4"].key
    assert stages["distill-depth-5-s2"].inputs["trunk"] == stages["trunk-depth-s2-4"].key


def test_a_resolved_recipe_has_the_same_branches() -> None:
    recipe = load(str(RECIPE), [*BRANCHES, "students.depth.seeds=2"])
    assert validate(recipe.model_dump(mode="json")) == recipe
    assert list(recipe.students) == ["depth", "depth-s2", "depth-5", "depth-5-s2", "depth-10", "depth-10-s2"]
