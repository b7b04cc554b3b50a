"""Studies that cannot run are refused when the recipe loads, or before the first trial."""

from __future__ import annotations

from typing import Any

import pytest

from conf.checks.recipe import check
from conf.load import load, override, read
from conf.study import StudyConfig
from conf.trials import check_study_values, load_study, reseeded, scored_on, trial_recipe
from tests.fixtures.flow import RECIPE, told

LR = "distill.lr: {low: 5e-4, high: 1e-2, log: true}"
STUDY = "study={{space: {{{space}}}, objectives: [{{model: {model}, by: {by}}}], {more}}}"


def study(space: str = LR, model: str = "depth", by: str = "val_loss", more: str = "seed: 1") -> str:
    return STUDY.format(space=space, model=model, by=by, more=more)


def values(*overrides: str) -> dict[str, Any]:
    found = read(str(RECIPE))
    for text in overrides:
        found = override(found, text)
    return found


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([study("distill.lrr: [1, 2]")], "study.space.distill.lrr is no key of this recipe: distill has no lrr; the"),
        ([study("students.dept.prune.num_layers: [1, 2]")], "students has no dept; the nearest is depth"),
        ([study("students.depth.distill.lrr: [1, 2]")], "students.depth.distill has no lrr; the nearest is lr"),
        ([study("logits.topk: [4, 8]")], "logits has no topk; the nearest is top_k"),
        ([study("zzz.lr: [1, 2]")], "a recipe has no zzz; choose one of description, engine, project, data"),
        ([study("distill.lr.low: [1, 2]")], "distill.lr has no low"),
        ([study("distil.lr: [1, 2]")], "a recipe has no distil; the nearest is distill"),
        ([study("evaluate.sequences: [4, 8]")], "changes how models are measured, not the models"),
        ([study("project: [one, other]")], "study.space.project changes no model"),
        ([study("distill.lr: []")], "study.space.distill.lr has no values"),
        ([study("distill.lr: [1e-3]")], "study.space.distill.lr has one value"),
        ([study("distill.lr: [1e-3, 1e-3]")], "study.space.distill.lr lists 0.001 twice"),
        ([study("distill.lr: {low: 2, high: 1}")], "study.space.distill.lr: low 2 is not below high 1"),
        ([study("distill.lr: {low: 0, high: 1, log: true}")], "log is true but low is 0"),
        ([study("distill.lr: {low: 1}")], "study.space.distill.lr.high is missing"),
        ([study("distill: [{lr: 1e-3}, {lr: 2e-3}], " + LR)], "has distill and distill.lr, which lies in it"),
        ([study(model="dept")], "study.objectives.1.model is dept, which no trial makes; choose one of depth-pruned"),
        ([study(by="mmlu"), "evaluate.mmlu=null"], "evaluate.mmlu is null, so no stage gives it"),
        ([study(by="gsm8k")], "evaluate.benchmarks does not ask it"),
        ([study(by="loss")], "study.objectives.1.by is 'loss'"),
        ([study(more="sampler: bayes")], "study.sampler is 'bayes'; it must be grid, random, tpe or gp"),
        ([study(more="sampler: grid")], "study.space.distill.lr is a range of which a grid has no values"),
        ([study("distill.steps: {low: 3, high: 6}", more="sampler: grid, trials: 3")], "which has 4 points"),
        ([study(more="seeds: 1")], "one seed has no spread"),
        ([study(more="trials: 0")], "study.trials is 0; it must be at least 1"),
        (["study={space: {distill.lr: [1e-3, 2e-3]}, objectives: []}"], "study.objectives"),
        (["evaluate.split=validation"], "evaluate.split is validation"),
    ],
)
def test_a_study_that_cannot_run_is_refused(overrides: list[str], part: str) -> None:
    assert part in told(*overrides)


@pytest.mark.parametrize(
    "given",
    [
        study(by="mmlu"),
        study("logits.top_k: [4, 8]"),
        study("students.depth.prune.num_layers: [1, 2]"),
        study(model="depth-pruned"),
    ],
)
def test_a_study_of_keys_and_metrics_that_there_are(given: str) -> None:
    assert load(str(RECIPE), [given]).study


def test_trainings_of_engine_nemo_cannot_be_compared_yet() -> None:
    with pytest.raises(ValueError, match="engine is nemo, whose trainings a study cannot compare yet"):
        load("qwen3-8b-depth-6b-nemo", [study()])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([study(by="bytes", more="stop: {}")], "study.stop compares validation curves, but the objectives are bytes"),
        ([study(model="depth-pruned", more="stop: {}")], "depth-pruned is not distilled"),
        ([study(more="stop: {}")], "0.25, 0.5 of 6 steps, but distill.validate_every is 3, so these points are steps"),
        ([study(more="stop: {at: [0.5, 0.5]}")], "stop.at is 0.5, 0.5; list rising shares"),
        ([study(more="stop: {at: [1]}")], "study.stop.at.1 is 1"),
        ([study(more="stop: {keep: 0.5}")], "keep is 0.5 but stop.rule is median"),
        ([study("distill.steps: [6, 9]", more="stop: {at: [0.5]}")], "the space changes the steps, batch, length"),
        ([study(more="stop: {at: [0.5]}"), "distill.schedule=wsd", "students.depth.branches=[]"], "has branches"),
        ([study(more="gpu_hours: 0")], "study.gpu_hours is 0"),
    ],
)
def test_stops_that_cannot_be_are_refused(overrides: list[str], part: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_study_values(values(*overrides))
    assert part in str(refused.value)


@pytest.mark.parametrize(
    "objectives", ["[{model: depth}, {model: depth}]", "[{model: depth}, {model: depth, by: bytes}]"]
)
def test_two_objectives_have_their_rules(objectives: str) -> None:
    message = told(f"study={{space: {{{LR}}}, seeds: 2, objectives: {objectives}}}")
    assert "twice" in message or "two objectives have a front" in message


@pytest.mark.parametrize(
    ("space", "part"),
    [
        ("students.depth.prune.num_layers: [2, 9]", "num_layers=9, which the recipe refuses: students.depth.prune"),
        ("distill.lr: {low: 1e-5, high: 1e-2}", "distill.lr=1e-05, which the recipe refuses: distill: min_lr 0.0001"),
        ("distill.loss: [forward_kl, forward_lk]", "distill.loss is 'forward_lk'; it must be"),
        (f"distill.warmup_steps: [1, 5], distill.steps: [5, 6], {LR}", "warmup_steps 5 is not below steps 5"),
    ],
)
def test_a_value_that_the_recipe_refuses_is_found_before(space: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_study_values(values(study(space)))
    assert part in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_recipe_without_a_study_is_told_so() -> None:
    with pytest.raises(ValueError, match="the recipe has no study section"):
        load_study(str(RECIPE))


def test_how_many_trials_there_are_without_being_told() -> None:
    def of(**fields: Any) -> StudyConfig:
        space = fields.pop("space", {"distill.lr": {"low": 1e-4, "high": 1e-2}})
        return StudyConfig.model_validate({"space": space, "objectives": [{"model": "depth"}]} | fields)

    listed = {"distill.steps": [1, 2, 3], "distill.keep": ["last", "best"]}
    assert [of().most, of(tokens=10**6).most, of(trials=7).most] == [20, 1000, 7]
    assert [of(space=listed).most, of(space=listed, sampler="grid").most] == [6, 6]
    assert [of().fresh, of(seeds=0).fresh, of(objectives=[{"model": "depth", "by": "bytes"}]).fresh] == [3, 0, 0]


def test_a_trial_is_the_recipe_with_its_values() -> None:
    point = {"distill.lr": 2e-3, "students.depth.prune.num_layers": 1}
    trial = trial_recipe(values(study()), point)
    assert trial.study is None
    assert trial == load(str(RECIPE), ["distill.lr=2e-3", "students.depth.prune.num_layers=1"])


def test_a_trial_verifies_no_export() -> None:
    assert load(str(RECIPE), ["verify={}"]).verify is not None
    assert trial_recipe(values(study(), "verify={}"), {"distill.lr": 2e-3}).verify is None


def test_a_students_own_section_takes_the_value_too() -> None:
    trial = trial_recipe(values(study(), "students.depth.distill={steps: 4}"), {"distill.lr": 2e-3})
    taught = trial.students["depth"].distill
    assert taught is not None and (taught.lr, taught.steps) == (2e-3, 4)


def test_fresh_seeds_are_those_of_what_learns() -> None:
    rounds = "[{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, distill: {steps: 3}}]"
    recipe = load(str(RECIPE), [f"students.depth={{prune: null, rounds: {rounds}}}"])
    fresh = reseeded(recipe, 2)
    assert fresh.teacher.seed == recipe.teacher.seed
    assert reseeded(recipe, 2, teacher=True).teacher.seed == recipe.teacher.seed + 2
    for name, number in (("depth", 0), ("depth", 1), ("width", -1)):
        ours, theirs = fresh.distill_of(name, number), recipe.distill_of(name, number)
        assert ours is not None and theirs is not None
        assert ours == theirs.model_copy(update={"seed": theirs.seed + 2})


def test_the_split_of_a_trial_changes_nothing_but_the_scores() -> None:
    recipe = load(str(RECIPE), ["distill.evaluate_every=3"])
    trial = scored_on(recipe, "validation")
    assert trial.evaluate.identity() == recipe.evaluate.identity() | {"split": "validation"}
    assert trial.distill_of("depth") == recipe.distill_of("depth")
    with pytest.raises(ValueError, match=r"evaluate\.split"):
        check(trial)
