"""Claims and winners that a run cannot judge are refused before it starts."""

from __future__ import annotations

import pytest

from conf.load import load, validate_recipe
from tests.fixtures.flow import RECIPE, told

CLAIM = "claims={{good: {{says: one is better, model: {model}, than: {than}, by: {by}}}}}"
NO_MMLU, NO_SPEED = "evaluate.mmlu=null", "evaluate.new_tokens=0"


def claim(model: str = "depth", than: str = "teacher", by: str = "val_loss") -> str:
    return CLAIM.format(model=model, than=than, by=by)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ([claim(than="depth")], ("claims.good compares depth with itself",)),
        ([claim(model="nobody")], ("claims.good.model is nobody", "choose one of")),
        ([claim(than="nobody")], ("claims.good.than is nobody",)),
        ([claim(by="mmlu"), NO_MMLU], ("claims.good.by is mmlu", "evaluate.mmlu is null")),
        ([claim(by="tokens_per_second"), NO_SPEED], ("tokens_per_second", "evaluate.new_tokens is 0")),
        ([claim(by="gsm8k")], ("claims.good.by is gsm8k", "evaluate.benchmarks does not ask it")),
        (["winner={by: mmlu}", NO_MMLU], ("winner.by is mmlu", "evaluate.mmlu is null")),
        (
            ["winner={by: gsm8k}"],
            ("winner.by is gsm8k", "evaluate.benchmarks does not ask it", "choose another metric"),
        ),
        (["winner={model: nobody}"], ("winner.model is nobody",)),
    ],
)
def test_what_cannot_be_judged_is_refused(overrides: list[str], parts: tuple[str, ...]) -> None:
    message = told(*overrides)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "overrides",
    [
        [claim()],
        [claim(by="mmlu")],
        [claim(by="tokens_per_second"), "evaluate.new_tokens=4"],
        [claim(by="val_loss"), NO_MMLU],
        [claim(by="gsm8k"), "evaluate.benchmarks={gsm8k: {}}"],
        [claim(by="val_loss"), NO_SPEED],
        ["winner={by: val_loss}", NO_MMLU],
        ["winner={by: gsm8k}", "evaluate.benchmarks={gsm8k: {}}"],
        ["winner={model: depth}"],
    ],
)
def test_what_is_measured_may_be_claimed(overrides: list[str]) -> None:
    assert load(str(RECIPE), overrides)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["contamination={action: drop}", NO_MMLU], "contamination is set but evaluate.mmlu is null and there are no"),
        (["contamination={mmlu: {path: quiz}}"], "contamination.mmlu is set"),
        (["data.decontaminate={}"], "data.decontaminate is set, but a recipe takes it from contamination"),
        (["contamination={reviewed: [twelve]}"], "'twelve' is neither a question (subject or benchmark, slash"),
    ],
)
def test_contamination_looks_for_the_questions_asked(overrides: list[str], part: str) -> None:
    assert part in told(*overrides)


def test_a_student_of_several_seeds_has_copies() -> None:
    recipe = load(str(RECIPE), ["students.depth={seeds: 3, distill: {steps: 4}}", "students.width.seeds=2"])
    assert list(recipe.students) == ["depth", "depth-s2", "depth-s3", "width", "width-s2"]
    assert (recipe.copies("depth"), recipe.copies("width-s2")) == (("depth-s2", "depth-s3"), ())
    first = recipe.distill_of("depth")
    for number, name in enumerate(recipe.copies("depth"), start=1):
        copy = recipe.distill_of(name)
        assert first and copy == first.model_copy(update={"seed": first.seed + number})
        assert recipe.students[name].prune == recipe.students["depth"].prune
    again = validate_recipe(recipe.model_dump(mode="json"))
    assert again == recipe, "a recipe as it was resolved is the same recipe"


def test_copies_draw_anew_what_is_drawn() -> None:
    chosen = "students.depth={seeds: 2, prune: {num_layers: 2, ranking: random}}"
    recipe = load(str(RECIPE), [chosen])
    first, other = (recipe.students[name].prune for name in ("depth", "depth-s2"))
    assert first and other == first.model_copy(update={"seed": first.seed + 1})
    rounds = "[{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, distill: {steps: 3}}]"
    recipe = load(str(RECIPE), [f"students.depth={{seeds: 2, prune: null, rounds: {rounds}}}"])
    for number in (0, 1):
        ours, copy = recipe.distill_of("depth", number), recipe.distill_of("depth-s2", number)
        assert ours and copy == ours.model_copy(update={"seed": ours.seed + 1})


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["students.depth.seeds=11"], "students.depth.seeds is 11; it must be at most 10"),
        (["students.depth.seeds=0"], "students.depth.seeds is 0; it must be at least 1"),
        (["students.depth.seeds=2", "distill=null"], "nothing of it is drawn at random; remove seeds"),
        (
            ["students.depth.seeds=2", "students.depth-s2={prune: {num_layers: 1}}"],
            "is its copy with seed 2, but the recipe",
        ),
        (
            ["students.depth.seeds=2", "students.width.seeds=3", claim(than="width")],
            "claims.good compares students of 2 and 3 seeds; give both as many",
        ),
    ],
)
def test_seeds_that_say_nothing_are_refused(overrides: list[str], part: str) -> None:
    assert part in told(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [claim(than="width")],
        [claim(than="width"), "students.width.seeds=3"],
        [claim(model="depth-fp8", than="depth-s2")],
        [claim(than="teacher")],
    ],
)
def test_students_of_as_many_seeds_or_one_are_compared(overrides: list[str]) -> None:
    assert load(str(RECIPE), ["students.depth.seeds=3", *overrides]).claims
