"""What trials cost, when a budget ends a study, and what a plan says of it: with trials made up by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from conf.stages.distill import DistillConfig
from flows import planned_study, rounds
from flows.planned_study import PlannedStudy, StudyStage
from flows.rounds import Cost, Trial

NO_CONFIG: Any = None


def stage(label: str, student: str | None = None, key: str = "k", cached: bool = False, steps: int = 0) -> Any:
    config = DistillConfig.model_construct(steps=steps) if steps else NO_CONFIG
    return SimpleNamespace(label=label, student=student, key=key, cached=cached, config=config)


def test_costs_add_up_and_are_shared() -> None:
    one, other = Cost(tokens=10, gpu_hours=3.0), Cost(tokens=4, gpu_hours=0.5)
    assert one + other == Cost(tokens=14, gpu_hours=3.5)
    assert one - other == Cost(tokens=6, gpu_hours=2.5)
    assert one.share(0.25) == Cost(tokens=2, gpu_hours=0.75)
    assert Cost() == Cost(tokens=0, gpu_hours=0.0)


def trial(number: int = 1, tokens: int = 40, **given: Any) -> Trial:
    """A teacher, two students, and what comes after the second one's distillation."""
    stages = (
        stage("teacher"),
        stage("distill-a", "a", steps=8),
        stage("prune-b", "b"),
        stage("distill-b", "b", steps=10),
    )
    own = {"teacher": Cost(tokens=5, gpu_hours=1.0), "distill-a": Cost(tokens=100, gpu_hours=2.0)}
    own |= {"prune-b": Cost(tokens=1, gpu_hours=0.5), "distill-b": Cost(tokens=tokens, gpu_hours=4.0)}
    settings: dict[str, Any] = {"number": number, "round": 1, "point": {"a": 1}, "stages": stages, "own": own}
    return Trial(**settings | given)


def test_a_stopped_trial_costs_its_own_students_first_steps() -> None:
    """The other student is not made before the point, what all students need is."""
    assert trial().cost == Cost(tokens=146, gpu_hours=7.5)
    assert trial().cost_until("b", 4) == Cost(tokens=5 + 1 + 16, gpu_hours=1 + 0.5 + 1.6)
    assert trial().cost_until("a", 2) == Cost(tokens=5 + 25, gpu_hours=1.5)
    assert trial(own={}).cost_until("b", 4) == Cost()
    assert (trial().mark, trial().stage("prune-b").label) == ("t1", "prune-b")


@pytest.mark.parametrize(
    ("budget", "spent", "told"),
    [
        ({}, Cost(tokens=10**9, gpu_hours=1e9), ""),
        ({"tokens": 1000}, Cost(tokens=1000), ""),
        ({"tokens": 1000}, Cost(tokens=1001), "the next trial would go beyond study.tokens 1,000"),
        ({"gpu_hours": 2.5}, Cost(gpu_hours=2.5), ""),
        ({"gpu_hours": 2.5}, Cost(gpu_hours=2.6), "the next trial would go beyond study.gpu_hours 2.5"),
        (
            {"tokens": 1000, "gpu_hours": 2.5},
            Cost(tokens=5, gpu_hours=3),
            "the next trial would go beyond study.gpu_ho",
        ),
    ],
)
def test_a_budget_may_be_spent_to_the_last_token(budget: dict[str, float], spent: Cost, told: str) -> None:
    study: Any = SimpleNamespace(**{"tokens": None, "gpu_hours": None} | budget)
    assert rounds._over(study, spent).startswith(told) and bool(told) == bool(rounds._over(study, spent))


def test_a_stage_changes_by_its_key_or_by_being_there() -> None:
    one = [stage("data", key="1"), stage("teacher", key="2"), stage("sft", key="3")]
    other = [stage("data", key="1"), stage("teacher", key="9")]
    assert rounds._changed([one, other]) == rounds._changed([other, one]) == {"teacher", "sft"}
    assert rounds._changed([one, one]) == rounds._changed([one]) == set()


def space(*trials: Trial, **given: Any) -> Any:
    settings = {"most": 8, "sampler": "tpe", "round": 3, "tokens": None, "gpu_hours": None, "stop": None, "fresh": 0}
    planned = (stage("data", key="d", cached=True), stage("teacher", key="t"))
    return SimpleNamespace(study=SimpleNamespace(**settings | given), planned=planned, steps=(1000, 2000), length=4000)


def test_a_plan_counts_stages_over_all_trials() -> None:
    stages = (stage("data", key="d", cached=True), stage("distill-a", key="1", cached=True))
    more = (stage("data", key="d", cached=True), stage("distill-a", key="2"), stage("distill-a", key="3"))
    known = [(trial(stages=stages), ""), (trial(2, stages=more), ""), (trial(3, stages=()), "refused")]
    assert planned_study._stages(space(), known) == [
        StudyStage(label="data", made="once", cached=1, pending=0),
        StudyStage(label="teacher", made="once", cached=0, pending=1),
        StudyStage(label="distill-a", made="3 times", cached=1, pending=2),
    ]


def test_a_plan_says_what_may_end_a_study() -> None:
    known = [(trial(), "a"), (trial(2, tokens=1000), "b")]
    lines = planned_study._sentences(space(), known, "")
    assert lines == [
        "2 of at most 8 trials are known, with 1,252 training tokens of their own.",
        "The others are chosen from the results of these, 3 at a time.",
    ]
    assert planned_study._sentences(space(sampler="grid"), known, "")[1] == "The others come in order, 3 at a time."
    assert len(planned_study._sentences(space(most=2), known, "")) == 1
    assert planned_study._sentences(space(), known, "it is spent")[1:] == ["No more follow: it is spent."]
    rule = SimpleNamespace(rule="median")
    more = planned_study._sentences(space(most=2, tokens=5000, gpu_hours=20.0, stop=rule, fresh=3), known, "")[1:]
    assert more[:2] == [
        "study.tokens 5,000 may end it before.",
        "study.gpu_hours 20 may end it before; these have 15.",
    ]
    assert more[2].startswith("Trials that fall behind are stopped after step 1,000, 2,000 of 4,000 (median)")
    assert more[3].startswith("Then the best trial and the recipe are taught again with 3 fresh seeds each")


def test_a_plan_says_where_each_trial_is() -> None:
    standing: Any = SimpleNamespace(stopped={4: SimpleNamespace(step=1200)})
    recipe: Any = object()
    refused, stopped = trial(3, refused="no"), trial(4, recipe=recipe)
    assert planned_study._state(space(), refused, standing) == ("refused", None)
    assert planned_study._state(space(), stopped, standing) == ("stopped after step 1,200", standing.stopped[4])
    assert planned_study._state(space(), trial(5, recipe=recipe), standing) == ("4 stages to run", None)
    assert planned_study._state(space(), stopped, None)[0] == "4 stages to run"


def test_a_planned_study_for_other_programs() -> None:
    stages = [StudyStage(label="data", made="once", cached=1, pending=0)]
    found = PlannedStudy(
        stages=stages, trials=[(trial(), "s"), (trial(2, refused="no"), "r")], sentences=["x"]
    ).as_json()
    assert found["stages"] == [{"label": "data", "made": "once", "cached": 1, "pending": 0}]
    first, second = found["trials"]
    assert first == {"trial": "t1", "round": 1, "point": {"a": 1}, "tokens": 146, "refused": None, "state": "s"}
    assert (second["trial"], second["refused"], found["sentences"]) == ("t2", "no", ["x"])
