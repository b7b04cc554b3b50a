"""Phases against the model and the rest of the recipe: refused when it loads, or just within."""

from __future__ import annotations

import pytest

from conf.checks.recipe import teacher_shape
from conf.load import load
from tests.fixtures.flow import RECIPE, told

ROWS = ["teacher.global_batch=16", "teacher.micro_batch=16", "distill.global_batch=16", "distill.micro_batch=16"]


def phases(where: str, *each: str) -> str:
    return f"{where}.phases=[{', '.join(f'{{{one}}}' for one in each)}]"


LONG = phases("teacher", "until: 0.5", "until: 1, seq_length: 512, rope_theta: 50000")
TURNS = phases("distill", "until: 0.5", "until: 1, rope_theta: 50000")
SHARED = phases("distill", "until: 6144", "until: 20480, seq_length: 128")
WSD = ["distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}"]
REFUSED: dict[str, tuple[list[str], str]] = {
    "longer than the positions": (
        [phases("teacher", "until: 0.5", "until: 1, seq_length: 512")],
        "teacher.phases.2.seq_length is 512 but the model has 256 positions; choose at most that or set"
        " teacher.phases.2.rope_theta or teacher.phases.2.rope_scaling",
    ),
    "before it turns": (
        [phases("teacher", "until: 0.5, seq_length: 512", "until: 1, rope_theta: 5e4")],
        "teacher.phases.1.seq_length is 512 but the model has 256 positions",
    ),
    "longer than the teacher's": (
        [phases("distill", "until: 0.5", "until: 1, seq_length: 512, rope_theta: 5e4")],
        "distill.phases.2.seq_length is 512 but the model of the teacher has 256 positions; choose at most that",
    ),
    "a scaling without its numbers": (
        [phases("teacher", "until: 1, rope_scaling: {rope_type: llama3, factor: 4}")],
        "teacher.phases.1.rope_scaling scales its rotary embedding by 'llama3' without low_freq_factor; add it",
    ),
    "one the family has not": (
        ["teacher.shape.architecture=phi3", phases("teacher", "until: 1, rope_scaling: {rope_type: yarn, factor: 4}")],
        "teacher.phases.1.rope_scaling.rope_type is yarn; supported for Phi-3 are default",
    ),
    "an embedding a kind of layer": (
        ["teacher.shape.architecture=gemma3_text", phases("teacher", "until: 1, rope_theta: 5e4")],
        "teacher.phases.1 changes the rotary embedding, of which a Gemma 3 has one for each kind of layer",
    ),
    "the best of several": (
        [TURNS, "distill.keep=best"],
        "distill.phases.2 changes the rotary embedding but distill.keep is best, which would be weights of phases",
    ),
    "an average over several": (
        [LONG, "teacher.average={kind: ema}"],
        "teacher.phases.2 changes the rotary embedding but teacher.average is ema, which would be weights of phases",
    ),
    "uneven parts of a sequence": (
        [
            phases("teacher", "until: 0.5", "until: 1, seq_length: 32"),
            "teacher.parallel={processes: 32, context: 32}",
        ],
        "teacher.parallel.context is 32 but seq_length 32 is not a multiple of 64",
    ),
    "branches at shares": (
        [TURNS, *WSD, "students.depth.branches=[10]"],
        "distill of depth has phases that end at shares of each training, so those that share steps with students.depth"
        " would change theirs elsewhere; give until in tokens",
    ),
    "branches of rates": (
        [phases("distill", "until: 10240", "until: 20480, lr: 1e-4"), *WSD, "students.depth.branches=[10]"],
        "distill of depth has phases with learning rates of their own, so no stable phase goes over them that",
    ),
    "an end that is not reached": (
        [SHARED, *WSD, "students.depth.distill={steps: 10}"],
        "phases of distill of depth end at 20,480 tokens, which it never reaches: steps 10 have 10,240 tokens",
    ),
    "an end that a teacher does not reach": (
        [phases("teacher", "until: 10240", "until: 102400, seq_length: 128")],
        "phases of teacher end at 102,400 tokens, which it never reaches: steps 60 have 61,440 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    overrides, sentence = REFUSED[case]
    assert sentence in told(*ROWS, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [LONG],
        [SHARED, *WSD, "students.depth.branches=[5, 10]"],
        [SHARED, *WSD, "students.depth.branches=[]", "students.depth.distill={steps: 10}"],
        [phases("teacher", "until: 0.5, rope_theta: 5e4", "until: 1, seq_length: 512")],
        [phases("teacher", "until: 1, seq_length: 512, rope_scaling: {rope_type: yarn, factor: 2}")],
        [phases("distill", "until: 0.5", "until: 1, seq_length: 128, rope_theta: 5e4")],
        [phases("teacher", "until: 0.5", "until: 1, seq_length: 256")],
        [phases("teacher", "until: 1, rope_theta: 5e4"), "teacher.average={kind: ema}"],
        ["teacher.shape.architecture=gemma3_text", phases("teacher", "until: 0.5", "until: 1, seq_length: 128")],
    ],
)
def test_just_within(overrides: list[str]) -> None:
    load(str(RECIPE), [*ROWS, *overrides])


def test_a_teacher_grows_with_its_phases() -> None:
    """What follows may read as much as it was taught."""
    longer = [*ROWS, LONG, "evaluate.seq_length=512", "distill.seq_length=512"]
    shape = teacher_shape(load(str(RECIPE), longer))
    assert shape and (shape.max_position_embeddings, shape.rope_theta) == (512, 50000)
    with pytest.raises(ValueError, match=r"seq_length is 512 but the model's maximum sequence length is 256"):
        load(str(RECIPE), [*ROWS, "evaluate.seq_length=512"])


@pytest.mark.parametrize("stage", ["teacher", "distill"])
def test_engine_nemo_has_no_phases(stage: str) -> None:
    trained = ["teacher.steps=40", "teacher.validate_every=10", "teacher.weight_decay=0.01", "teacher.adam_beta2=0.999"]
    given = [*trained, "teacher.seed=1234", phases(stage, "until: 1")]
    with pytest.raises(ValueError, match="phases are not supported by engine nemo; remove them or use engine megatron"):
        load("qwen3-8b-depth-6b-nemo", given)
    assert load("qwen3-8b-depth-6b-nemo", given[:-1]).engine == "nemo"
    assert load("qwen3-8b-depth-6b", given[-1:] if stage == "distill" else given)
