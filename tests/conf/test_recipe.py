"""What a recipe says of its students and its stages: which settings hold for which of them, and what is filled in."""

from __future__ import annotations

from typing import Any

import pytest

from conf.load import load
from conf.recipe import Recipe
from tests.fixtures.flow import RECIPE, told

TRAINED = "steps: 4, seq_length: 64, global_batch: 4, micro_batch: 2, lr: 1e-3, min_lr: 1e-4, warmup_steps: 1"
SFT = f"sft={{{TRAINED}, kd_weight: 0.5, teacher_weights: fp8}}"
RECORDS = "records={source: world, seq_length: 64}"
LOGITS = "logits={seq_length: 64}"
OFFLINE = "offline: true, top_k: 8, best_by: val_divergence"
NEMO = "qwen3-8b-depth-6b-nemo"


def recipe(*overrides: str) -> Recipe:
    return load(str(RECIPE), list(overrides))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["quantize=[fp8, fp8]"], "quantize has duplicate formats: ['fp8', 'fp8']; list each once"),
        (["students.width.quantize=[fp8, int8_sq]"], "students.width.quantize names int8_sq, which is not in the reci"),
        (
            ["ladder={bound: 0.1, formats: [fp8, int8_sq]}"],
            "ladder.formats names int8_sq, which is not in the recipe's quantize",
        ),
        (
            ["ladder={bound: 0.1, formats: [fp8], metric: mmlu}", "evaluate.mmlu=null"],
            "ladder.metric is mmlu but evaluate.mmlu",
        ),
        (["students.depth-sft={prune: {num_layers: 1}}"], "students.depth-sft has the name of a model of student dep"),
        (["students.depth-fp8={prune: {num_layers: 1}}"], "students.depth-fp8 has the name of a model of student dep"),
    ],
)
def test_names_that_do_not_fit_are_refused(overrides: list[str], sentence: str) -> None:
    assert sentence in told(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["ladder={bound: 0.1, formats: [fp8], metric: mmlu}"],
        ["ladder={bound: 0.1, formats: [fp8], metric: val_loss}", "evaluate.mmlu=null"],
        ["students.depth-w4={prune: {num_layers: 1}}"],
        ["students.other-sft={prune: {num_layers: 1}}"],
    ],
)
def test_names_that_just_fit_are_taken(overrides: list[str]) -> None:
    assert recipe(*overrides).students


@pytest.mark.parametrize(
    ("wanted", "names"), [("true", ["fp8", "nvfp4"]), ("false", []), ("[nvfp4]", ["nvfp4"]), ("[]", [])]
)
def test_a_student_has_the_formats_that_it_names(wanted: str, names: list[str]) -> None:
    made = recipe(f"students.depth.quantize={wanted}")
    assert [entry.name for entry in made.formats_of("depth")] == names
    assert made.stages_of("depth") == ("prune", "distill", *["quantize"] * bool(names))


def test_copies_are_counted_from_the_second_seed() -> None:
    made = recipe("students.depth.seeds=3")
    assert made.copies("depth") == ("depth-s2", "depth-s3")
    assert made.copies("width") == made.copies("nobody") == ()


def test_a_round_s_distillation_goes_before_the_student_s_and_the_recipe_s() -> None:
    rounds = "[{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, distill: {steps: 3}}]"
    made = recipe(f"students.depth={{prune: null, rounds: {rounds}, distill: {{steps: 5}}}}")
    found = [made.distill_of(*asked) for asked in (("depth", 0), ("depth", 1), ("depth",), ("width",))]
    assert [config and config.steps for config in found] == [5, 3, 3, 6]
    assert recipe("distill=null").distill_of("width") is None


def test_evaluations_while_learning_are_filled_in() -> None:
    config = recipe("distill.evaluate_every=3").distill_of("depth")
    assert config and config.evaluation and config.evaluation.sequences == 8


def test_engine_nemo_has_stages_of_its_own() -> None:
    ours, theirs = load("qwen3-8b-depth-6b"), load(NEMO)
    cut = theirs.students["depth"].prune
    assert cut and ours.prune_stage(cut) is cut and getattr(theirs.prune_stage(cut), "engine", "") == "nemo"
    assert getattr(theirs.distill_of("depth"), "engine", "") == "nemo"
    assert not hasattr(ours.distill_of("depth"), "engine")
    trained = ["teacher.steps=40", "teacher.validate_every=10", "teacher.weight_decay=0.01"]
    tuned = load(NEMO, [*trained, "teacher.adam_beta2=0.999", "teacher.seed=1234"])
    assert getattr(tuned.teacher_stage, "engine", "") == "nemo" and ours.teacher_stage is ours.teacher


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        ([], True),
        (["students.width=null", "students.depth.prune={num_layers: null, drop_layers: [2]}"], False),
        (["students.width=null", "students.depth.prune={num_layers: null, drop_layers: [2]}", "sweep={}"], True),
    ],
)
def test_importance_is_needed_by_what_ranks(overrides: list[str], needed: bool) -> None:
    sweep = [text if text != "sweep={}" else "sweep={seq_length: 64}" for text in overrides]
    assert recipe(*sweep).needs_importance is needed


def test_engine_nemo_ranks_by_itself() -> None:
    assert load("qwen3-8b-depth-6b").needs_importance and not load(NEMO).needs_importance


def test_a_student_s_fine_tuning_goes_before_the_recipe_s() -> None:
    made = recipe(SFT, RECORDS, "students.depth.sft={steps: 2}")
    steps = [config and config.steps for config in map(made.sft_of, ("depth", "width"))]
    assert steps == [2, 4] and recipe().sft_of("depth") is None
    assert "sft" in made.stages_of("width") and "sft" not in recipe().stages_of("width")


def test_the_teacher_is_fine_tuned_alone_where_a_student_asks() -> None:
    assert recipe(SFT, RECORDS).teacher_sft is None
    tuned = recipe(SFT, RECORDS, "students.depth.sft={teacher: true}").teacher_sft
    assert tuned and (tuned.kd_weight, tuned.teacher, tuned.teacher_weights) == (0, False, "full")
    assert tuned.steps == 4


def test_raw_text_is_the_corpus_as_it_came() -> None:
    made = recipe("data.deduplicate={}", "data.filter={gopher: {}}", "data.pii={}", "students.depth.text=raw")
    raw = made.raw_stage
    assert raw and raw == made.data.model_copy(update=dict.fromkeys(("filter", "pii", "deduplicate")))
    assert recipe("data.deduplicate={}").raw_stage is None


def test_prompts_and_records_are_of_the_corpus_s_world() -> None:
    made = recipe(
        "records={source: [world, generated], seq_length: 64}", "generate={prompts: world, max_new_tokens: 8}"
    )
    assert made.generate_stage and made.generate_stage.world == made.data.world
    assert made.records_stage and made.records_stage.world == made.data.world
    own = "world: {seed: 9}"
    other = recipe(
        f"records={{source: [world, generated], seq_length: 64, {own}}}",
        f"generate={{prompts: world, max_new_tokens: 8, {own}}}",
    )
    for stage in (other.generate_stage, other.records_stage):
        assert stage and stage.world and stage.world.seed == 9
    assert recipe().generate_stage is recipe().records_stage is None


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        ([], True),
        (["evaluate.mmlu=null"], False),
        (["evaluate.mmlu=null", "evaluate.benchmarks={gsm8k: {}}"], True),
        (["contamination=null"], False),
    ],
)
def test_contamination_is_looked_for_where_questions_are_asked(overrides: list[str], asked: bool) -> None:
    made = recipe(*overrides)
    stage = made.contamination_stage
    assert (stage is not None) is asked and (stage is None or stage.mmlu == made.evaluate.mmlu)
    assert made.data_stage == made.data, "nothing is taken out unless asked"


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_contamination_tells_the_stages_what_to_take_out(action: str) -> None:
    made = load("demo-sdg", [f"contamination={{action: {action}, min_coverage: 0.6, reviewed: [home/3]}}"])
    assert made.records_stage and made.generate_stage
    for stage in (made.data_stage, made.records_stage, made.generate_stage):
        taken = stage.decontaminate
        assert taken and (taken.action, taken.min_coverage, taken.reviewed) == (action, 0.6, ("home/3",))
        assert taken.mmlu == made.evaluate.mmlu


@pytest.mark.parametrize(
    ("overrides", "stored"),
    [
        ([LOGITS], False),
        ([LOGITS, f"students.depth.distill={{{OFFLINE}}}"], True),
        (
            [
                LOGITS,
                "students.depth={prune: null, rounds: [{prune: {num_layers: 2}, distill: {"
                + OFFLINE
                + "}}, {prune: {ffn_hidden_size: 64}}]}",
            ],
            True,
        ),
        (["distill=null"], False),
    ],
)
def test_logits_are_stored_where_any_round_reads_them(overrides: list[str], stored: bool) -> None:
    assert recipe(*overrides).stores_logits is stored


def test_a_student_has_gates_for_the_stages_that_it_has() -> None:
    gate: dict[str, Any] = {"metric": "val_loss", "by": "ratio", "at_most": 2}
    gates = ", ".join(f"{after}: {gate | {'after': after}}" for after in ("prune", "distill", "quantize"))
    made = recipe(f"gates={{{gates}}}", "students.width={quantize: false, gates: {prune: null}}")
    assert (list(made.gates_of("depth")), list(made.gates_of("width"))) == (
        ["prune", "distill", "quantize"],
        ["distill"],
    )
