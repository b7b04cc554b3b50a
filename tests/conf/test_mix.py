"""Where the stages of a blend and the phases of a training lie, as the plan tells it."""

from __future__ import annotations

from conf.branches import trunks
from conf.load import load
from conf.mix import as_json, mix_told, phases_as_json, phases_told, placed, trainings
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


QAD = (
    "quantize=[{format: fp8, seq_length: 64, qad: {steps: 8, seq_length: 64, global_batch: 4, micro_batch: 4, lr: 1e-4,"
    " min_lr: 1e-5, warmup_steps: 1}}]"
)


def test_who_writes_for_the_blend_does_not_read_it() -> None:
    written = ["blend.sources.more={source: written, weight: 1}", "write.documents=9", "students.width=null"]
    found = [where for where, _ in trainings(load(str(RECIPE), [*written, QAD]))]
    assert found == ["distill of depth", "quantize.qad of depth (fp8-qad)"]


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


ROWS = ["teacher.global_batch=16", "teacher.micro_batch=16", "distill.global_batch=16", "distill.micro_batch=16"]
WSD = ["distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}"]


def phases(where: str, *each: str) -> str:
    return f"{where}.phases=[{', '.join(f'{{{one}}}' for one in each)}]"


LONG = phases("teacher", "until: 0.5", "until: 1, seq_length: 512, rope_theta: 50000")
SHARED = phases("distill", "until: 6144", "until: 20480, seq_length: 128")


def test_branches_share_their_phases() -> None:
    """The trunks have one key in all of them, and say nothing of steps that they do not make."""
    recipe = load(str(RECIPE), [*ROWS, SHARED, *WSD, "students.depth.branches=[5, 10]"])
    first, *others = (trunks(recipe, name)[0] for name in ("depth", "depth-5", "depth-10"))
    assert all(first.identity() == other.identity() for other in others) and first.until == 4
    ends = [[phase["until_step"] for phase in phases_as_json(trunk) or []] for trunk in trunks(recipe, "depth")]
    assert ends == [[4], [6, 8], [6, 16]]
    told = [line for line in phases_told(recipe) if line.startswith("distill of depth-")]
    assert [line.partition(" (")[0] for line in told] == [
        "distill of depth-5: phase 1 of 2, steps 1 to 5",
        "distill of depth-10: phase 1 of 2, steps 1 to 6",
        "distill of depth-10: phase 2 of 2, steps 7 to 10",
    ]
    assert told[0].endswith("; the training ends in it") and told[2].endswith("; the training ends in it")


def test_the_plan_tells_the_phases() -> None:
    lines = phases_told(load(str(RECIPE), [*ROWS, LONG]))
    assert lines == [
        "teacher: phase 1 of 2, steps 1 to 30 (30,720 tokens): 16 sequences of 64 a step, 16 in a micro-batch",
        "teacher: phase 2 of 2, steps 31 to 60 (30,720 tokens): 2 sequences of 512 a step, 2 in a micro-batch, rotary"
        " base 50,000",
    ]
    rates = phases("distill", "until: 0.5", "until: 1, schedule: linear, min_lr: 0")
    (first, second) = phases_told(load(str(RECIPE), [*ROWS, rates]))
    assert first.startswith("distill of depth, distill of width: phase 1 of 2, steps 1 to 3 (3,072 tokens)")
    assert first.endswith(", constant rate 0.001, warm-up 1") and second.endswith(", linear rate 0.001 to 0")
    assert phases_told(load(str(RECIPE), ROWS)) == []


def test_the_plan_tells_the_phases_to_programs() -> None:
    recipe = load(str(RECIPE), [*ROWS, LONG, phases("distill", "until: 0.5", "until: 1, schedule: linear, min_lr: 0")])
    first, second = phases_as_json(recipe.teacher) or []
    assert first == {
        "first_step": 1,
        "until_step": 30,
        "until_tokens": 30 * 1024,
        "seq_length": 64,
        "global_batch": 16,
        "micro_batch": 16,
    }
    longer = {"until_step": 60, "until_tokens": 60 * 1024, "seq_length": 512, "global_batch": 2, "micro_batch": 2}
    assert second == first | longer | {"first_step": 31, "rope_theta": 50000}
    (_, decay) = phases_as_json(recipe.distill_of("depth")) or []
    assert {name: decay[name] for name in ("lr", "min_lr", "warmup_steps", "schedule")} == {
        "lr": 1e-3,
        "min_lr": 0,
        "warmup_steps": 0,
        "schedule": {"name": "linear"},
    }
    scaled = load(
        str(RECIPE), [*ROWS, phases("teacher", "until: 1, rope_scaling: {rope_type: yarn, factor: 2, beta_fast: 16}")]
    )
    (only,) = phases_as_json(scaled.teacher) or []
    assert only["rope_scaling"] == {"rope_type": "yarn", "factor": 2, "beta_fast": 16} and "rope_theta" not in only
    assert phases_as_json(scaled.distill) is phases_as_json(recipe.data) is None


def test_the_mix_is_told_in_blocks() -> None:
    more = ["blend.sources.more.source=world", "blend.stages=[{until: 1, weights: {data: 1, more: 1}}]", LONG, *ROWS]
    assert "teacher: 120 blocks of 512, stage 1 to 120 (step 60)" in mix_told(load(str(RECIPE), more))
