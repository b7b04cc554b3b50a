"""Students that cannot share a stable phase are refused when the recipe loads."""

from __future__ import annotations

import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, told

WSD = ["distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}"]
LATE = "students.late={{branch_of: depth, prune: {{num_layers: 2, parallel: {{threads: 1}}}}, distill: {{{}}}}}"
BASE = "students.depth.branches=[]"
ROUNDS = (
    "students.depth={prune: null, rounds: [{prune: {num_layers: 2}, distill: {begun: 1}}, {prune: {hidden_size: 16}}]}"
)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["distill.schedule=cosine", "students.depth.branches=[3]"], "the schedule of depth is cosine, whose rate"),
        ([*WSD, "students.depth.branches=[20]"], "lists 20, which is its own steps; list shorter ones"),
        ([*WSD, "students.depth.branches=[30]"], "is more than its own 20; raise its distill.steps to 30 and list 20"),
        ([*WSD, "students.depth.branches=[5, 5]"], "lists 5 twice"),
        ([*WSD, "students.depth.branches=[0]"], "students.depth.branches.1 is 0"),
        ([*WSD, "students.depth.branches=[1]"], "warmup_steps 1 is not below steps 1"),
        ([*WSD, "distill.schedule.decay_share=1", "distill.warmup_steps=0", BASE], "takes all its 20 steps"),
        ([*WSD, "distill.average={kind: mean, last: 6}", BASE], "reach back 5 steps, into the stable phase"),
        ([*WSD, "distill.average={kind: mean, last: 5}", BASE], "reach back 4 steps, into the stable phase"),
        ([*WSD, "students.depth-5={prune: {num_layers: 2}}", "students.depth.branches=[5]"], "rename that one"),
        ([*WSD, "students.depth.distill=null", "distill=null", BASE], "is not distilled"),
        ([*WSD, LATE.format("steps: 15")], "students.late.branch_of is depth, which has no branches"),
        ([*WSD, BASE, LATE.format("steps: 30")], "begins after step 24, past the stable phase of depth, which ends"),
        ([*WSD, BASE, LATE.format("steps: 10, lr: 2e-3")], "distill.lr is 0.002 for late and 0.001 for depth"),
        ([*WSD, BASE, LATE.format("steps: 10, schedule: linear")], "the schedule of late is linear"),
        ([*WSD, BASE, LATE.format("steps: 5").replace("layers: 2", "layers: 1")], "late is cut in another way"),
        (
            [*WSD, BASE, "data.deduplicate={}", LATE.format("steps: 5").replace("branch_of", "text: raw, branch_of")],
            "late learns from raw text and depth from curated",
        ),
        ([*WSD, "distill.retry={}", BASE], "distill.retry may give some of them a smaller rate; remove retry"),
        ([*WSD, "distill.begun=3"], "distill.begun is 3, but it is filled in"),
        ([*WSD, ROUNDS], "students.depth.rounds.1.distill.begun is 1, but it is filled in"),
    ],
)
def test_branches_that_cannot_be_are_refused(overrides: list[str], part: str) -> None:
    assert part in told(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [*WSD, "distill.average={kind: mean, last: 4}", BASE],
        [*WSD, BASE, LATE.format("steps: 20")],
        [*WSD, BASE, LATE.format("steps: 10, seed: 9")],
        [*WSD, "students.depth.branches=[19]"],
    ],
)
def test_branches_that_just_share_a_phase_are_taken(overrides: list[str]) -> None:
    assert load(str(RECIPE), overrides).students["depth"].branches is not None
