"""What each stage refuses when the recipe loads, and the value beside the bound that it takes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from conf.base import Config
from conf.load import load
from conf.shape import Shape
from conf.stages.benchmark import Benchmark
from conf.stages.blend import BlendConfig
from conf.stages.distill import DistillConfig
from conf.stages.generate import GenerateConfig
from conf.stages.logits import LogitsConfig
from conf.stages.prune import PruneConfig
from conf.stages.qad import QADConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.records import RecordsConfig
from conf.stages.sensitivity import AutoConfig
from conf.stages.sft import SftConfig
from conf.stages.sweep import SweepConfig
from conf.stages.teacher import TeacherConfig

SHAPE = {"num_layers": 2, "hidden_size": 32, "ffn_hidden_size": 64, "num_attention_heads": 4, "num_query_groups": 2}
STEPS = {
    "steps": 10,
    "warmup_steps": 2,
    "lr": 1e-3,
    "min_lr": 1e-4,
    "global_batch": 8,
    "micro_batch": 2,
    "seq_length": 16,
}
BASE: dict[type[Config], dict[str, Any]] = {
    TeacherConfig: STEPS | {"shape": SHAPE},
    DistillConfig: STEPS,
    SftConfig: STEPS,
    QADConfig: STEPS,
    GenerateConfig: {"prompts": "world", "max_new_tokens": 8},
    QuantizeConfig: {"format": "fp8"},
}
OFFLINE = {"offline": True, "top_k": 8, "best_by": "val_divergence"}
REFUSED: list[tuple[type[Config], dict[str, Any], str]] = [
    (TeacherConfig, {"min_lr": 2e-3}, "min_lr 0.002 is above lr 0.001"),
    (TeacherConfig, {"warmup_steps": 10}, "warmup_steps 10 is not below steps 10"),
    (TeacherConfig, {"schedule": "constant"}, "min_lr 0.0001 is not lr 0.001"),
    (TeacherConfig, {"schedule": {"name": "wsd", "decay_share": 0.9}}, "the 9 steps of schedule.decay_share"),
    (TeacherConfig, {"schedule": {"name": "linear", "decay_share": 0.2}}, "decay_share is 0.2 but schedule.name is"),
    (TeacherConfig, {"schedule": {"name": "cosine", "decay": "linear"}}, "decay is linear but schedule.name is cosine"),
    (TeacherConfig, {"global_batch": 7}, "global_batch 7 is not a multiple of micro_batch 2"),
    (TeacherConfig, {"parallel": {"processes": 8}}, "choose a multiple of 16"),
    (TeacherConfig, {"model": "here"}, "exactly one of model"),
    (TeacherConfig, {"shape": None}, "exactly one of model"),
    (TeacherConfig, {"steps": 0}, "teacher.steps is 0"),
    (PruneConfig, {}, "cuts nothing"),
    (PruneConfig, {"drop_layers": [1], "num_layers": 2}, "both set the depth"),
    (PruneConfig, {"drop_layers": [1], "ranking": "random"}, "needs no ranking"),
    (PruneConfig, {"num_query_groups": 1, "ranking": "random"}, "but only num_query_groups is set, which needs no"),
    (PruneConfig, {"num_query_groups": 1, "drop_layers": [1], "ranking": "magnitude"}, "drop_layers and num_query"),
    (PruneConfig, {"num_query_groups": 0}, "greater than or equal to 1"),
    (PruneConfig, {"num_layers": 2, "kv_merging": "mean"}, "kv_merging is mean but num_query_groups is not set"),
    (PruneConfig, {"num_layers": 2, "kv_grouping": "adjacent"}, "set num_query_groups or remove kv_grouping"),
    (PruneConfig, {"drop_layers": [1, 1]}, "distinct layers"),
    (PruneConfig, {"drop_layers": [0]}, "numbered from 1"),
    (PruneConfig, {"hidden_size": 16, "parallel": {"processes": 2, "tensor": 2}}, "pipeline"),
    (BlendConfig, {"sources": {"data": {"source": "a.txt", "weight": 1}}}, "the recipe's own corpus"),
    (GenerateConfig, {"endpoint": "http://a/v1"}, "set both or neither"),
    (GenerateConfig, {"endpoint_model": "a"}, "set both or neither"),
    (GenerateConfig, {"samples": 2, "temperature": 0}, "the same answer every time"),
    (Benchmark, {"samples": 2, "temperature": 0}, "the same answer every time"),
    (GenerateConfig, {"stop": ["a", ""]}, "an empty text"),
    (RecordsConfig, {"source": "world", "prompt_field": "a"}, "set both or neither"),
    (DistillConfig, {"offline": True}, "top_k is empty"),
    (DistillConfig, OFFLINE | {"rest_bucket": True, "temperature": 2}, "stored at temperature 1"),
    (DistillConfig, OFFLINE | {"best_by": "val_kl", "keep": "best"}, "full vocabulary"),
    (DistillConfig, OFFLINE | {"best_by": "val_kl", "patience": 2}, "full vocabulary"),
    (DistillConfig, OFFLINE | {"teacher_weights": "fp8"}, "no teacher is loaded; remove it, and set logits.teacher_w"),
    (DistillConfig, {"teacher_weights": "fp8", "steps": 0}, "teacher_weights is fp8 but steps is 0"),
    (DistillConfig, {"best_by": "mmlu"}, "evaluate_every is empty"),
    (DistillConfig, {"evaluate_every": 11}, "more than the 10 steps"),
    (DistillConfig, {"min_delta": 0.1}, "patience is empty"),
    (DistillConfig, {"evaluate_limit": 5}, "need evaluate_every"),
    (SftConfig, {"offline": True, "kd_weight": 0.5}, "needs kd_weight and top_k"),
    (SftConfig, {"offline": True, "top_k": 4}, "needs kd_weight and top_k"),
    (SftConfig, {"teacher_weights": "fp8"}, "sft.teacher_weights is fp8 but kd_weight is 0"),
    (SftConfig, {"parallel": {"processes": 2, "context": 2}}, "packed records cannot be split"),
    (SftConfig, {"keep": "best", "best_by": "val_kl"}, "choose val_loss"),
    (QuantizeConfig, {"format": None}, "exactly one of format and auto"),
    (QuantizeConfig, {"auto": {"formats": ["fp8"], "effective_bits": 8}}, "exactly one of format and auto"),
    (AutoConfig, {"formats": ["int4_awq"], "effective_bits": 8}, "choose from fp8"),
    (AutoConfig, {"formats": ["fp8", "fp8"], "effective_bits": 8}, "duplicates"),
    (QADConfig, {"loss": "reverse_kl"}, "only forward KL"),
    (QADConfig, {"top_k": 4}, "only forward KL"),
    (QADConfig, {"parallel": {"processes": 2}}, "one process"),
    (QADConfig, {"steps": 0, "warmup_steps": 0}, "steps is 0"),
    (LogitsConfig, {"parallel": {"processes": 2, "context": 2}}, "whole sequences"),
    (SweepConfig, {"ratios": [1.0]}, "between 0 and 1"),
    (SweepConfig, {"ratios": [0.0]}, "between 0 and 1"),
    (SweepConfig, {"ratios": [0.5, 0.5]}, "distinct"),
]
TAKEN: list[tuple[type[Config], dict[str, Any]]] = [
    (Benchmark, {"samples": 1, "temperature": 0}),
    (TeacherConfig, {"min_lr": 1e-3}),
    (TeacherConfig, {"warmup_steps": 9}),
    (TeacherConfig, {"parallel": {"processes": 4}}),
    (TeacherConfig, {"shape": None, "model": "here", "steps": 0}),
    (PruneConfig, {"drop_layers": [1, 2]}),
    (PruneConfig, {"num_layers": 2, "ranking": "random"}),
    (PruneConfig, {"num_query_groups": 1, "kv_grouping": "adjacent", "kv_merging": "first"}),
    (PruneConfig, {"hidden_size": 16, "parallel": {"processes": 2, "pipeline": 2}}),
    (BlendConfig, {"sources": {"other": {"source": "a.txt", "weight": 1}}}),
    (GenerateConfig, {"endpoint": "http://a/v1", "endpoint_model": "a"}),
    (GenerateConfig, {"samples": 1, "temperature": 0}),
    (GenerateConfig, {"samples": 2, "temperature": 0.1}),
    (RecordsConfig, {"source": "world", "prompt_field": "a", "response_field": "b"}),
    (DistillConfig, OFFLINE | {"rest_bucket": True, "temperature": 1}),
    (DistillConfig, OFFLINE | {"rest_bucket": False, "temperature": 2}),
    (DistillConfig, {"rest_bucket": True, "temperature": 2, "top_k": 8}),
    (DistillConfig, OFFLINE | {"keep": "best"}),
    (DistillConfig, OFFLINE | {"best_by": "val_kl"}),
    (DistillConfig, {"best_by": "val_kl", "keep": "best"}),
    (DistillConfig, {"evaluate_every": 10, "best_by": "mmlu"}),
    (DistillConfig, {"min_delta": 0.1, "patience": 1}),
    (DistillConfig, {"teacher_weights": "fp8"}),
    (SftConfig, {"teacher_weights": "fp8", "offline": True, "kd_weight": 0.5, "top_k": 4}),
    (SftConfig, {"offline": True, "kd_weight": 0.5, "top_k": 4}),
    (SftConfig, {"keep": "best", "best_by": "val_kl", "kd_weight": 0.5}),
    (SftConfig, {"keep": "best", "best_by": "val_loss"}),
    (QuantizeConfig, {"format": None, "auto": {"formats": ["fp8"], "effective_bits": 8}}),
    (QADConfig, {"steps": 1, "warmup_steps": 0}),
]


@pytest.mark.parametrize(("kind", "settings", "sentence"), REFUSED, ids=[f"{k.__name__}-{s}" for k, _, s in REFUSED])
def test_what_cannot_be_honoured_is_refused(kind: type[Config], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        kind.model_validate(BASE.get(kind, {}) | settings)


@pytest.mark.parametrize(("kind", "settings"), TAKEN)
def test_what_is_just_within_is_taken(kind: type[Config], settings: dict[str, Any]) -> None:
    kind.model_validate(BASE.get(kind, {}) | settings)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"num_query_groups": 3}, "not a multiple of num_query_groups"),
        ({"hidden_size": 34}, "set head_dim"),
    ],
)
def test_heads_must_divide(changed: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Shape.model_validate(SHAPE | changed)


def test_a_split_that_is_used_needs_documents() -> None:
    for override, sentence in (
        ("data.test_share=0", "data.test_share is 0"),
        ("data.validation_share=0", "data.validation_share is 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            load("tests/recipes/tiny.yaml", [override])
