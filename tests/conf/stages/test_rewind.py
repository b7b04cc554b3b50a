"""Settings of training that goes back from spikes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.load import load
from conf.mix import trainings
from conf.stages.distill import DistillConfig
from conf.stages.spikes import Spikes
from tests.fixtures.flow import RECIPE, told

REWIND: dict[str, Any] = {"window": 5, "action": "rewind", "rewind_every": 10}
SETTINGS: dict[str, Any] = {"steps": 40, "seq_length": 64, "global_batch": 8, "micro_batch": 4, "lr": 1e-3}
SETTINGS |= {"min_lr": 1e-5, "warmup_steps": 2, "spikes": REWIND}
LONG = ["distill.steps=60", "distill.spikes={window: 5, action: rewind, rewind_every: 10}"]


def test_points_and_bounds_by_default() -> None:
    assert (Spikes().point_every, Spikes(action="rewind").point_every, Spikes(action="rewind").most_rewinds) == (
        None,
        50,
        3,
    )
    assert Spikes(action="rewind", rewind_every=7, rewinds=2).most_rewinds == 2
    assert "action" not in Spikes().identity() and Spikes(action="rewind").identity()["action"] == "rewind"


@pytest.mark.parametrize("given", [{"rewind_every": 10}, {"rewinds": 2}])
def test_what_skipping_has_not(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"but spikes\.action is skip, which goes nowhere back; choose rewind or"):
        Spikes.model_validate(given)


def test_text_beyond_its_own_steps_also_beside_phases() -> None:
    config = DistillConfig.model_validate(SETTINGS | {"phases": [{"until": 0.5}, {"until": 1, "seq_length": 32}]})
    assert config.spare_steps == 3 * 10


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["distill.schedule={name: wsd}", "students.depth.branches=[20]"],
            "distill of depth has spikes.action rewind, but students.depth.branches shares its first steps",
        ),
        (
            [
                "study={space: {distill.lr: [1e-3, 2e-3]}, objectives: [{model: depth}], stop: {rule: halving}}",
                "evaluate.mmlu=null",
            ],
            "distill.spikes.action is rewind, but study.stop stops trials between their steps",
        ),
    ],
)
def test_what_a_recipe_refuses(more: list[str], sentence: str) -> None:
    assert sentence in told(*LONG, *more)
    load(str(RECIPE), [*LONG, "blend.sources.more.source=world", "blend.stages=[{until: 1, weights: {more: 1}}]"])


def test_short_rounds_of_a_search_do_without() -> None:
    search = (
        "students.depth={prune: null, search: {target_params: 0.9, candidates: 4, ffn_divisor: 16, halving: {top_k: 2,"
        " steps: 8}}}"
    )
    short = dict(trainings(load(str(RECIPE), [*LONG, search])))["round 1 of the search of depth"]
    assert short.spikes is None and short.phases == ()
