"""Mixtures of experts in a config.json and in a recipe: what they say, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.checks.layout import check_experts
from conf.estimate.flops import forward_flops
from conf.hf_config import REQUIRED, completed
from conf.hf_model import shape_in
from conf.hf_weights import needed
from conf.load import load
from conf.mixture import mixture
from conf.shape import Shape, num_params
from conf.shapes import cut_shape
from conf.stages.prune import PruneConfig
from conf.stages.teacher import TeacherConfig

SIZES = dict.fromkeys(REQUIRED, 64) | {"num_attention_heads": 4}
QWEN: dict[str, Any] = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True}
DIMENSIONS: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 64,
    "ffn_hidden_size": 48,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "vocab_size": 384,
}
MIXED = Shape(architecture="qwen3_moe", num_experts=8, experts_per_token=2, **DIMENSIONS)
DENSE = Shape(architecture="qwen3", **DIMENSIONS)
TEACHER = {"steps": 2, "seq_length": 64, "global_batch": 8, "micro_batch": 4, "lr": 1e-3, "min_lr": 1e-4}


def test_both_names_of_the_number_of_experts_are_read() -> None:
    for given in ({"num_experts": 8}, {"num_local_experts": 8}, {"num_experts": 8, "num_local_experts": 8}):
        whole = completed(SIZES | QWEN | {"num_experts": None} | given)
        assert whole["num_experts"] == whole["num_local_experts"] == 8
        assert completed(whole) == whole


def test_a_family_says_whether_weights_of_experts_add_up() -> None:
    for given, normalized in (({}, False), ({"norm_topk_prob": True}, True)):
        found = mixture(
            completed(SIZES | {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2} | given)
        )
        assert found is not None and found.normalized == normalized
    mixtral = mixture(completed(SIZES | {"model_type": "mixtral", "norm_topk_prob": False}))
    assert mixtral is not None and mixtral.normalized, "it has no such field"
    assert (mixtral.count, mixtral.chosen, mixtral.width) == (8, 2, 64)
    assert mixture(completed(SIZES | {"model_type": "qwen3"})) is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two numbers": ({"num_local_experts": 4}, "has num_experts 8 and num_local_experts 4, which are two names of one"),
    "fewer than a token takes": ({"num_experts": 1}, "lets a token take 2 experts, but a layer has 1"),
    "no number": ({"num_experts": "many"}, "has num_experts 'many'; it must be a whole number above 0"),
    "none": ({"num_experts": 0}, "has num_experts 0; it must be a whole number above 0"),
    "no width": ({"moe_intermediate_size": 1.5}, "has moe_intermediate_size 1.5; it must be a whole number"),
    "of one": ({"num_experts_per_tok": 1}, "lets a token take 1 expert, whose weight is always 1"),
    "dense layers": ({"mlp_only_layers": [0]}, r"has mlp_only_layers \[0\]: some layers have no experts"),
    "sparse layers": ({"decoder_sparse_step": 2}, "has decoder_sparse_step 2: some layers have no experts"),
    "shared": ({"shared_expert_intermediate_size": 96}, "shared_expert_intermediate_size 96, experts that all tokens"),
    "windows": ({"use_sliding_window": True}, "sets use_sliding_window, which is not supported beside experts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mixture_that_is_not_computed_is_refused(case: str) -> None:
    given, told = REFUSED[case]
    with pytest.raises(ValueError, match=told):
        completed(SIZES | QWEN | given)


def test_noise_that_training_would_not_add_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sets router_jitter_noise 0.1, which training here would not add"):
        completed(SIZES | {"model_type": "mixtral", "router_jitter_noise": 0.1})


def test_experts_count_once_each_and_a_token_passes_some() -> None:
    width = 64 // 4
    attention = 64 * width * (2 * 4 + 2 * 2)
    around = 2 * 64 + 2 * width
    outside = 2 * 384 * 64 // (2 if MIXED.tie_word_embeddings else 1) + 64
    expert, router = 3 * 64 * 48, 8 * 64
    assert num_params(MIXED) == outside + 2 * (attention + around + 8 * expert + router)
    assert num_params(MIXED, active=True) == outside + 2 * (attention + around + 2 * expert + router)
    assert num_params(DENSE, active=True) == num_params(DENSE)
    assert sum(1 for name in needed(MIXED) if ".experts." in name) == 2 * 8 * 3
    per_token = 2 * (attention + 2 * expert + router) + 2 * 16 * 4 * width
    assert forward_flops(MIXED, 16) == 2 * per_token + 2 * 64 * 384


def test_a_shape_has_experts_if_its_family_has() -> None:
    for wrong, told in (
        ({"architecture": "qwen3_moe"}, "Qwen3-MoE mixes experts, but num_experts is empty; set it"),
        ({"architecture": "qwen3_moe", "num_experts": 4}, "but experts_per_token is empty; set it"),
        ({"architecture": "llama", "num_experts": 4}, "Llama has no experts; remove num_experts"),
        ({"architecture": "mixtral", "num_experts": 4, "experts_per_token": 5}, "choose 2 to 4"),
    ):
        with pytest.raises(ValueError, match=told):
            Shape(**DIMENSIONS | wrong)


CUTS = {
    "fewer than a token takes": (1, MIXED, "num_experts is 1 but a token of the teacher takes 2; choose 2 to 8"),
    "more than there are": (9, MIXED, "num_experts is 9 but the teacher has 8; choose at most that"),
    "none there": (4, DENSE, "num_experts is 4 but the teacher is dense, with no experts; remove it"),
}


@pytest.mark.parametrize("case", CUTS)
def test_a_cut_of_experts_that_does_not_fit_is_refused(case: str) -> None:
    experts, teacher, told = CUTS[case]
    with pytest.raises(ValueError, match=f"students.s.prune.{told}"):
        cut_shape("students.s.prune", PruneConfig(num_experts=experts), teacher)


def test_fewer_and_narrower_experts_make_a_smaller_model() -> None:
    cut = cut_shape("students.s.prune", PruneConfig(num_experts=4, ffn_hidden_size=32), MIXED)
    assert (cut.num_experts, cut.experts_per_token, cut.ffn_hidden_size) == (4, 2, 32)
    assert num_params(MIXED) - num_params(cut) == 2 * (8 * 3 * 64 * 48 - 4 * 3 * 64 * 32 + 4 * 64)


def training(**settings: Any) -> TeacherConfig:
    shape = MIXED.model_dump()
    return TeacherConfig.model_validate(TEACHER | {"warmup_steps": 0, "shape": shape} | settings)


def test_tensor_ranks_train_experts_only_with_sequence_parallelism() -> None:
    two = {"processes": 2, "tensor": 2}
    with pytest.raises(ValueError, match=r"set teacher.parallel.sequence=true"):
        check_experts("teacher", training(parallel=two), MIXED)
    check_experts("teacher", training(parallel=two | {"sequence": True}), MIXED)
    check_experts("teacher", training(parallel=two), DENSE)


def test_nothing_is_balanced_where_there_are_no_experts() -> None:
    with pytest.raises(ValueError, match=r"sft.expert_balance is 0.01 but the model of student s has no experts"):
        check_experts("sft", training(expert_balance=0.01), DENSE, " of student s")
    check_experts("teacher", training(expert_balance=0.01), MIXED)


def test_a_recipe_of_experts_is_checked_when_it_loads(tmp_path: Path) -> None:
    name, base = "qwen3-30b-a3b-experts-112", ["distill.parallel.sequence=false"]
    with pytest.raises(ValueError, match=r"distill.parallel.tensor is 4 and the model of the teacher mixes experts"):
        load(name, base)
    with pytest.raises(ValueError, match="takes 8; choose 8 to 128"):
        load(name, ["students.experts.prune.num_experts=7"])
    auto = json.dumps([{"auto": {"effective_bits": 6, "formats": ["nvfp4", "fp8"]}}])
    with pytest.raises(ValueError, match=r"quantize.auto chooses a format for each layer, which is not supported for"):
        load(name, [f"quantize={auto}"])


def test_a_directory_of_experts_has_their_shape() -> None:
    shape = shape_in(SIZES | QWEN | {"moe_intermediate_size": 48, "intermediate_size": 999})
    assert (shape.num_experts, shape.experts_per_token, shape.ffn_hidden_size) == (8, 2, 48)
    assert "num_experts" not in DENSE.identity() and MIXED.identity()["num_experts"] == 8


def test_a_token_may_take_every_expert() -> None:
    whole = completed(SIZES | QWEN | {"num_experts": 2})
    assert (whole["num_experts"], whole["num_experts_per_tok"]) == (2, 2)
    assert Shape(**DIMENSIONS | {"architecture": "mixtral", "num_experts": 2, "experts_per_token": 2}).num_experts == 2
    with pytest.raises(ValueError, match="choose 2 to 4"):
        Shape(**DIMENSIONS | {"architecture": "mixtral", "num_experts": 4, "experts_per_token": 1})
