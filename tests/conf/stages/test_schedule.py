"""The learning rate after the warm-up, by its formulas."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.stages.schedule import Schedule
from conf.stages.teacher import TeacherConfig
from tasks.store.store import key_of

SHAPE = {"num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2}
TEACHER = {"steps": 10, "warmup_steps": 2, "lr": 1e-3, "min_lr": 1e-4, "global_batch": 8, "micro_batch": 2}


def teacher(**settings: Any) -> TeacherConfig:
    return TeacherConfig.model_validate({**TEACHER, "shape": SHAPE, "seq_length": 16, **settings})


@pytest.mark.parametrize(
    ("settings", "halfway"),
    [
        ({"name": "cosine"}, 0.5),
        ({"name": "linear"}, 0.5),
        ({"name": "constant"}, 1.0),
        ({"name": "wsd", "decay_share": 0.2}, 1.0),
    ],
)
def test_the_height_half_way(settings: dict[str, Any], halfway: float) -> None:
    assert Schedule(**settings).height(60, 100, 20) == pytest.approx(halfway)


@pytest.mark.parametrize(
    ("decay", "height"),
    [("linear", 0.75), ("cosine", 0.5 + math.sqrt(0.125)), ("exponential", 2 / 2**0.25 - 1), ("minus_sqrt", 0.5)],
)
def test_a_quarter_of_the_decay(decay: Any, height: float) -> None:
    assert Schedule(name="wsd", decay_share=0.2, decay=decay).height(85, 100, 20) == pytest.approx(height)


@given(
    st.sampled_from(["cosine", "linear", "wsd"]),
    st.integers(1, 300),
    st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_it_ends_at_min_lr_and_never_rises(name: Any, steps: int, share: float, warm: float) -> None:
    schedule = Schedule(name=name, decay_share=share if name == "wsd" else None)
    warmup = int(min(warm * steps, steps - schedule.decay_steps(steps) if name == "wsd" else steps - 1))
    heights = [schedule.height(step, steps, warmup) for step in range(warmup, steps + 1)]
    assert heights[0] == 1
    assert heights[-1] == pytest.approx(0, abs=1e-12)
    assert all(after <= before for before, after in itertools.pairwise(heights))


def test_wsd_decays_in_a_tenth_unless_told() -> None:
    assert Schedule(name="wsd").decay_steps(200) == 20
    assert Schedule(name="wsd", decay_share=0.25).decay_steps(200) == 50
    assert Schedule(name="wsd", decay_share=0.001).decay_steps(200) == 1


@pytest.mark.parametrize(
    ("settings", "stable"),
    [
        ({"name": "constant"}, 99),
        ({"name": "wsd"}, 90),
        ({"name": "wsd", "decay_share": 0.25}, 75),
        ({"name": "cosine"}, None),
        ({"name": "linear"}, None),
    ],
)
def test_the_stable_phase_knows_no_end(settings: dict[str, Any], stable: int | None) -> None:
    schedule = Schedule(**settings)
    assert schedule.stable_steps(100) == stable
    if stable is not None:
        assert [schedule.height(step, 100, 20) for step in (21, stable)] == [1, 1]


def test_a_rate_that_stays_has_no_lower_one() -> None:
    assert teacher(schedule="constant", min_lr=1e-3).schedule.name == "constant"
    with pytest.raises(ValueError, match=r"schedule is constant but min_lr 0\.0001 is not lr 0\.001"):
        teacher(schedule="constant")
    with pytest.raises(ValueError, match=r"min_lr 0\.002 is above lr 0\.001; choose a smaller min_lr"):
        teacher(min_lr=2e-3)
    with pytest.raises(ValueError, match="warmup_steps 10 is not below steps 10"):
        teacher(warmup_steps=10)
    teacher(warmup_steps=9)


def test_a_name_is_enough() -> None:
    assert teacher(schedule="linear").schedule == Schedule(name="linear")


def test_a_decay_may_fill_the_rest() -> None:
    assert teacher(schedule={"name": "wsd", "decay_share": 0.8}).schedule.decay_steps(10) == 8


def test_the_schedule_is_part_of_the_key() -> None:
    plain = key_of("teacher", teacher(), {})
    assert key_of("teacher", teacher(schedule="cosine"), {}) == plain
    assert key_of("teacher", teacher(schedule="linear"), {}) != plain
