"""What a recipe with engine nemo is refused for: stages and students that its scripts do not make, and settings, each
at its place in the recipe."""

from __future__ import annotations

import pytest

from conf.load import RecipeError, load

STATED = ["distill.weight_decay=0.01", "distill.adam_beta2=0.999", "distill.seed=1234"]
TRAINED = ["teacher.steps=40", "teacher.validate_every=10", "teacher.weight_decay=0.01", "teacher.adam_beta2=0.999"]
DROPPED = "students.depth.prune={num_layers: null, drop_layers: [3]}"
ROUNDS = "[{prune: {num_layers: 30}}, {prune: {num_layers: 24}}]"
SFT = "{steps: 4, seq_length: 64, global_batch: 4, micro_batch: 2, lr: 1e-3, min_lr: 1e-4, warmup_steps: 1}"
SHAPE = "{num_layers: 2, hidden_size: 32, ffn_hidden_size: 64, num_attention_heads: 4, num_query_groups: 2}"
OTHER = "is not supported by engine nemo; remove it or use engine megatron"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["distill.seed=1"], "distill.seed is 1 but engine nemo's gpt_train always uses 1234"),
        (["students.depth.distill.seed=1"], "students.depth.distill.seed is 1 but engine nemo's gpt_train always uses"),
        ([*TRAINED, "teacher.seed=1"], "teacher.seed is 1 but engine nemo's gpt_train always uses 1234"),
        (["distill.temperature=2"], "distill.temperature is 2.0, which engine nemo's gpt_train does not support"),
        (["students.depth.distill.top_k=64"], "students.depth.distill.top_k is 64"),
        (["students.depth.prune.ranking=random"], "students.depth.prune.ranking is random"),
        ([DROPPED, "students.depth.prune.hidden_size=3072"], "students.depth.prune sets drop_layers and hidden_size"),
        (
            ["students.depth={search: {target_params: 0.5}}", "students.depth.prune=null"],
            "students.depth.search is not supported by engine nemo; use students.depth.prune or engine megatron",
        ),
        (
            [f"students.depth={{rounds: {ROUNDS}}}", "students.depth.prune=null"],
            "students.depth.rounds is not supported by engine nemo",
        ),
        ([f"students.depth.sft={SFT}", "records.source=a.jsonl"], "students.depth.sft is not supported"),
        (["sweep={}"], f"sweep {OTHER}"),
        (["logits={seq_length: 4096}"], f"logits {OTHER}"),
        (["blend.sources.more={source: world, weight: 1}"], f"blend {OTHER}"),
        ([f"sft={SFT}"], f"sft {OTHER}"),
        (["generate={prompts: world}"], f"generate {OTHER}"),
        (["teacher.model=null", f"teacher.shape={SHAPE}", *TRAINED], "teacher.shape is not supported by engine nemo"),
        (
            ["importance.micro_batch=3"],
            "importance.calibration_samples 1024 is not a multiple of importance.micro_batch 3, as engine nemo's",
        ),
        (
            ["teacher.reference.architecture=mistral"],
            "teacher.model is a Mistral model, which engine nemo does not import; use engine megatron, or a",
        ),
    ],
)
def test_what_nemo_s_scripts_lack_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        load("qwen3-8b-depth-6b-nemo", overrides)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("overrides", [["importance.micro_batch=2"], [DROPPED, "importance.micro_batch=3"]])
def test_samples_are_divided_only_where_they_are_passed(overrides: list[str]) -> None:
    assert load("qwen3-8b-depth-6b-nemo", overrides).engine == "nemo"


def test_engine_megatron_has_what_nemo_lacks() -> None:
    overrides = ["distill.seed=1", "distill.temperature=2", "importance.micro_batch=3", "sweep={}"]
    assert load("qwen3-8b-depth-6b", [*overrides, "teacher.reference.architecture=mistral"]).sweep


def test_missing_gpt_train_settings_are_listed() -> None:
    with pytest.raises(ValueError) as caught:
        load("qwen3-8b-depth-6b", ["engine=nemo"])
    assert all(setting in str(caught.value) for setting in STATED)
    assert load("qwen3-8b-depth-6b", ["engine=nemo", *STATED]).engine == "nemo"
    with pytest.raises(RecipeError):
        load("qwen3-8b-depth-6b", ["engine=neemo"])
