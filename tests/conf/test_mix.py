"""Where the stages of a blend lie in each training, as the plan tells it."""

from __future__ import annotations

from conf.load import load
from conf.mix import as_json, mix_told, placed, trainings
from conf.recipe import Recipe
from tests.fixtures.flow import RECIPE

MORE = "blend.sources.more.source=world"
SHARES = "blend.stages=[{until: 0.7, weights: {data: 3, more: 1}}, {until: 1, weights: {more: 1}}]"
TOKENS = (
    "blend.stages=[{until: 1000, weights: {data: 1}}, {until: 3200, weights: {more: 1}},"
    " {until: 20000, weights: {data: 1}}]"
)
ROUNDED = "; where a stage would end inside a sequence, it ends at the nearest one's end"


def recipe(*overrides: str) -> Recipe:
    return load(str(RECIPE), [MORE, *overrides])


def test_a_plan_tells_the_stages_by_shares() -> None:
    assert mix_told(recipe(SHARES)) == [
        "blend, stage 1 of 2, until 0.7 of each training: data 75.00%, more 25.00%",
        "blend, stage 2 of 2, until 1 of each training: more 100.00%",
        "teacher: 240 sequences of 64, stage 1 to 168 (step 42), stage 2 to 240 (step 60)",
        "distill of depth, distill of width: 24 sequences of 64, stage 1 to 17 (step 5), stage 2 to 24 (step 6)"
        + ROUNDED,
    ]


def test_a_plan_tells_the_stages_by_tokens() -> None:
    """The teacher's bounds are inside of sequences or not; the student ends in the first stage but one."""
    assert mix_told(recipe(TOKENS))[2:] == [
        "blend, stage 3 of 3, until 20,000 tokens: data 100.00%",
        "teacher: 240 sequences of 64, stage 1 to 16 (step 4), stage 2 to 50 (step 13), stage 3 to 240 (step 60)"
        + ROUNDED,
        "distill of depth, distill of width: 24 sequences of 64, stage 1 to 16 (step 4), stage 2 to 24 (step 6)"
        f"{ROUNDED}; it ends before stage 3",
    ]
    even = TOKENS.replace("1000", "1024").replace("20000", "20001")
    assert mix_told(recipe(even))[3] == (
        "teacher: 240 sequences of 64, stage 1 to 16 (step 4), stage 2 to 50 (step 13), stage 3 to 240 (step 60)"
    ), "a bound that is not reached is nobody's"


def test_without_stages_nothing_is_told() -> None:
    assert mix_told(recipe("blend.sources.more.weight=1")) == []
    assert mix_told(load(str(RECIPE), [])) == []


def test_what_reads_the_corpus() -> None:
    search = (
        "students.width={prune: null, search: {target_params: 0.9, candidates: 4, ffn_divisor: 16, halving: {top_k: 4,"
        " steps: 2}}}"
    )
    found = [(where, config.sequences) for where, config in trainings(recipe(SHARES, search))]
    assert found == [
        ("teacher", 240),
        ("distill of depth", 24),
        ("distill of width", 24),
        ("round 1 of the search of width", 8),
        ("round 2 of the search of width", 16),
    ]
    assert list(trainings(recipe("blend.sources.more.weight=1", "distill=null")))[1:] == []


def test_a_plan_for_programs_has_the_bounds() -> None:
    planned = recipe(TOKENS)
    assert placed(planned.blend, planned.distill) == [16, 24, 24]
    assert as_json(planned.blend, planned.distill) == [
        {"until_sequence": 16, "until_step": 4, "until_tokens": 1024},
        {"until_sequence": 24, "until_step": 6, "until_tokens": 1536},
        {"until_sequence": 24, "until_step": 6, "until_tokens": 1536},
    ]
    assert as_json(recipe(SHARES).blend, planned.distill)[0] == {
        "until_sequence": 17,
        "until_step": 5,
        "until_tokens": 1088,
    }
    assert as_json(planned.blend, planned.importance) is None
    assert (
        as_json(None, planned.distill) is as_json(recipe("blend.sources.more.weight=1").blend, planned.distill) is None
    )
