"""The steps after which trials are compared: the nearest validations."""

from __future__ import annotations

from typing import Any

import pytest

from conf.load import load
from conf.stages.schedule import Schedule
from conf.stopping import check_stop, compared_student, stopping_steps
from conf.study import StudyConfig

TINY = "tests/recipes/tiny.yaml"


def study(at: list[float], model: str = "depth", by: str = "val_loss") -> StudyConfig:
    objectives = [{"model": model, "by": by}]
    stop = {"stop": {"at": at}}
    return StudyConfig.model_validate({"space": {"distill.lr": [1e-3, 2e-3]}, "objectives": objectives} | stop)


def recipe(steps: int = 10, every: int = 3, **distill: Any) -> Any:
    loaded = load(TINY)
    assert loaded.distill is not None
    update = {"steps": steps, "validate_every": every} | distill
    return loaded.model_copy(update={"distill": loaded.distill.model_copy(update=update)})


@pytest.mark.parametrize(
    ("steps", "every", "at", "points"),
    [
        (10, 3, [0.25, 0.5], (3, 6)),
        (10, 3, [0.01, 0.95], (3, 9)),
        (100, 10, [0.25, 0.5, 0.94], (20, 50, 90)),
        (12, 1, [0.25, 0.5], (3, 6)),
    ],
)
def test_points_are_at_the_nearest_validation(steps: int, every: int, at: list[float], points: tuple[int, ...]) -> None:
    assert stopping_steps(recipe(steps, every), study(at)) == points


@pytest.mark.parametrize(("steps", "every", "at"), [(9, 3, [0.9]), (10, 3, [0.25, 0.3]), (2, 3, [0.5])])
def test_points_without_a_validation_are_refused(steps: int, every: int, at: list[float]) -> None:
    with pytest.raises(ValueError, match=f"of {steps} steps, but distill.validate_every is {every}"):
        stopping_steps(recipe(steps, every), study(at))


def test_the_student_is_that_of_the_objectives_model() -> None:
    assert compared_student(recipe(), study([0.5], "depth-fp8")) == "depth"
    longer = recipe()
    longer.students["depth-a"] = longer.students["depth"]
    assert compared_student(longer, study([0.5], "depth-a-fp8")) == "depth-a"
    for model in ("teacher", "depth-pruned", "dept"):
        with pytest.raises(ValueError, match=f"but {model} is not distilled"):
            compared_student(recipe(), study([0.5], model))


def test_what_offline_does_not_validate_is_not_compared() -> None:
    offline = recipe(offline=True)
    assert stopping_steps(offline, study([0.5])) == (6,)
    assert stopping_steps(recipe(), study([0.5], by="kl_teacher")) == (6,)
    with pytest.raises(ValueError, match=r"which distill\.offline does not validate"):
        stopping_steps(offline, study([0.5], by="kl_teacher"))


@pytest.mark.parametrize("name", ["steps", "global_batch", "seq_length", "validate_every"])
def test_trials_are_compared_after_equal_tokens(name: str) -> None:
    one = recipe(100, 10)
    check_stop(study([0.5]), [one, recipe(100, 10, lr=5e-4)])
    other = recipe(**{"steps": 100, "every": 10} | {"every" if name == "validate_every" else name: 20})
    with pytest.raises(ValueError, match="the space changes the steps, batch, length"):
        check_stop(study([0.01] if name == "steps" else [0.5]), [one, other])
    free = study([0.5]).model_copy(update={"stop": None})
    check_stop(free, [one, other])


@pytest.mark.parametrize(
    ("schedule", "stable"),
    [
        (Schedule(name="constant"), 99),
        (Schedule(name="wsd"), 90),
        (Schedule(name="wsd", decay_share=1), 0),
        (Schedule(name="linear"), None),
    ],
)
def test_a_stable_phase_ends_where_the_decay_begins(schedule: Schedule, stable: int | None) -> None:
    assert schedule.stable_steps(100) == stable
