"""A blend against the trainings that read it: refused when the recipe loads, or just within."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.load import load
from tests.fixtures.flow import RECIPE, told

MORE = "blend.sources.more.source=world"
WEIGHED = "blend.sources.more.weight=1"


def stages(*untils: float) -> str:
    """Stages that end so; of data and more in turn."""
    parts = [f"{{until: {until}, weights: {{data: 1, more: {number + 1}}}}}" for number, until in enumerate(untils)]
    return f"blend.stages=[{', '.join(parts)}]"


WSD = ["distill.steps=20", "distill.schedule={name: wsd, decay_share: 0.2}"]
QAD = (
    "quantize=[{format: fp8, seq_length: 64, qad: {steps: 8, seq_length: 64, global_batch: 4, micro_batch: 4, lr: 1e-4,"
    " min_lr: 1e-5, warmup_steps: 1}}]"
)
SEARCH = (
    "students.depth={prune: null, search: {target_params: 0.9, candidates: 4, ffn_divisor: 16, halving: {top_k: 2,"
    " steps: 1}}}"
)
WRITTEN = ["write.documents=9", "blend.sources.more.source=written"]
REFUSED = {
    "longer than the last stage": (
        [stages(5000, 15359)],
        "teacher trains on 15,360 tokens (60 steps of 4 x 64) but the last of blend.stages ends at 15,359; raise it or"
        " choose fewer steps",
    ),
    "longer than the blend": (
        [WEIGHED, QAD, "students.width=null", "blend.tokens=2047", "teacher.steps=3", "distill=null"],
        "quantize.qad of depth (fp8-qad) trains on 2,048 tokens (8 steps of 4 x 64) but blend.tokens is 2,047; raise"
        " blend.tokens or choose fewer steps",
    ),
    "no sequence in a stage": (
        [stages(0.5, 0.52, 1)],
        "distill of depth reads 24 sequences of 64 tokens, none of which is in stage 2 of blend.stages; choose more",
    ),
    "none in the last": (
        [stages(0.5, 0.98, 1)],
        "depth reads 24 sequences of 64 tokens, none of which is in stage 3",
    ),
    "none between tokens": (
        [stages(640, 650, 15360)],
        "teacher reads 240 sequences of 64 tokens, none of which is in stage 2 of blend.stages",
    ),
    "none in a search's round": (
        [stages(0.05, 1), SEARCH],
        "round 1 of the search of depth reads 4 sequences of 64 tokens, none of which is in stage 1",
    ),
    "branches": (
        [stages(0.5, 1), *WSD, "students.depth.branches=[]"],
        "students.depth.branches shares the first steps of trainings, but blend.stages end at shares of each training",
    ),
    "a writer whose text nobody reads": (
        [WEIGHED, "write.documents=9"],
        "write is set but no source of the blend is 'written'; add blend.sources.NAME.source: written, or remove write",
    ),
    "nobody writes": (
        [WEIGHED, "blend.sources.more.source=written"],
        "blend.sources.more.source is 'written' but the recipe has no write section; set write.documents",
    ),
    "written and other text": (
        [WEIGHED, "write.documents=9", "blend.sources.more.source=[written, world]"],
        "blend.sources.more.source has 'written', what a recipe's teacher writes, which is the whole source of a corpus"
        " of the blend and nothing else; set blend.sources.NAME.source=written",
    ),
    "written twice": (
        [WEIGHED, *WRITTEN, "blend.sources.again={source: written, weight: 1}"],
        "blend.sources.again.source is 'written', and so is that of more; remove one of the two",
    ),
    "written as the corpus": ([WEIGHED, "data.source=written"], "data.source has 'written', what a recipe's teacher"),
    "another form": (
        [WEIGHED, *WRITTEN, "blend.sources.more.join=line"],
        "blend.sources.more sets text_field or join, but what the teacher writes has one form; remove them",
    ),
    "a document too long": (
        [WEIGHED, *WRITTEN, "write.max_new_tokens=256"],
        "write.prompt_tokens 0 and max_new_tokens 256 make documents of 257 tokens with the one before them, but the"
        " teacher's longest sequence is 256; lower one of the two",
    ),
    "nemo": ([WEIGHED, "engine=nemo"], "blend is not supported by engine nemo; remove it or use engine megatron"),
}
TAKEN = {
    "as long as the last stage": [stages(5000, 15360)],
    "what the teacher writes": [WEIGHED, *WRITTEN],
    "as long as the teacher reads": [WEIGHED, *WRITTEN, "write.max_new_tokens=252", "write.prompt_tokens=3"],
    "of a teacher that reads less": [WEIGHED, *WRITTEN, "blend.tokens=9000", "teacher.steps=60", "students.width=null"],
    "one sequence": [stages(0.5, 0.53, 1)],
    "a stage that is not reached": [stages(2000, 14000, 14001, 15360), "teacher.steps=30"],
    "a stage that begins where the training ends": [stages(640, 7680, 7690, 15360), "teacher.steps=30"],
    "branches of a mix by tokens": [stages(640, 15360), *WSD, "students.depth.branches=[10]"],
    "a training of no steps": [stages(0.5, 1), "distill.steps=0", "distill.warmup_steps=0", "distill.spikes=null"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_mix_cannot_do_is_refused(what: str) -> None:
    overrides, sentence = REFUSED[what]
    assert sentence in told(MORE, *overrides)


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_just_within_is_taken(what: str) -> None:
    assert load(str(RECIPE), [MORE, *TAKEN[what]]).blend


def test_a_length_that_is_not_stated_fits_the_teacher() -> None:
    """Its longest sequence is 256 tokens, the one before a document included."""
    write = load(str(RECIPE), [MORE, WEIGHED, *WRITTEN, "write.prompt_tokens=5"]).write
    assert write and write.max_new_tokens == 250


@pytest.fixture
def blend(tmp_path: Path) -> str:
    path = tmp_path / "more.txt"
    path.write_text("Nothing in particular.\n" * 9)
    return f"blend.sources.more={{source: {path}, weight: 1.0}}"


def test_no_training_may_need_more_than_the_blend_holds(blend: str) -> None:
    most = load(str(RECIPE)).teacher.tokens
    assert load(str(RECIPE), [blend, f"blend.tokens={most}"]).blend
    refused = told(blend, f"blend.tokens={most - 1}")
    assert refused.startswith(f"teacher trains on {most:,} tokens (") and f"blend.tokens is {most - 1:,};" in refused


def test_each_round_of_a_student_is_checked(blend: str) -> None:
    most = load(str(RECIPE)).teacher.tokens
    rounds = "[{prune: {num_layers: 2}}, {prune: {ffn_hidden_size: 64}, distill: {steps: 9000}}]"
    refused = told(blend, f"blend.tokens={most}", f"students.twice={{rounds: {rounds}}}")
    assert refused.startswith("distill of twice trains on") and "(9000 steps of" in refused


def test_stored_logits_need_a_single_corpus(blend: str) -> None:
    assert "distill.offline does not work with a blend" in told(blend, "distill.offline=true", "distill.top_k=4")
