"""The plan's counts of each stage, by hand."""

from __future__ import annotations

import pytest

from conf.base import StageConfig
from conf.engines.asked import AnsweredBy
from conf.estimate import memory, passes
from conf.estimate.flops import forward_flops
from conf.estimate.numbers import Models, StageEstimate
from conf.load import load
from conf.parallel import Parallel
from conf.report.pruning import CacheBytes
from conf.shape import Shape, num_params
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from conf.stages.generate import GenerateConfig
from conf.stages.importance import ImportanceConfig
from conf.stages.logits import LogitsConfig, high_planes, row_bytes
from conf.stages.prune import PruneConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.sensitivity import SensitivityConfig
from conf.stages.sweep import SweepConfig
from conf.stages.teacher import TeacherConfig
from conf.stages.trunk import first_steps
from conf.stages.verify import BOUNDS, VerifyConfig

TEACHER = Shape(
    num_layers=4, hidden_size=32, ffn_hidden_size=64, num_attention_heads=4, num_query_groups=2, vocab_size=128
)
STUDENT = TEACHER.model_copy(update={"num_layers": 2})
MODELS = Models(teacher=TEACHER, before=TEACHER, after=STUDENT, where="at", weight_bytes=2, cuts=3)


def estimate(config: StageConfig, models: Models = MODELS) -> StageEstimate:
    numbers = config.estimate(models)
    assert numbers is not None
    return numbers


def test_training_counts_its_tokens() -> None:
    config = load("tests/recipes/tiny.yaml", ["distill.steps=10", "distill.warmup_steps=2"]).distill
    assert config is not None
    numbers = estimate(config)
    assert numbers.tokens == 10 * config.global_batch * config.seq_length
    assert (numbers.steps, numbers.params) == (10, num_params(STUDENT))
    student, teacher = (forward_flops(shape, config.seq_length) for shape in (STUDENT, TEACHER))
    assert numbers.work and numbers.work.flops == numbers.tokens * (3 * student + teacher)


def test_importance_passes_once_over_its_samples() -> None:
    numbers = estimate(ImportanceConfig(calibration_samples=6, seq_length=16))
    assert (numbers.tokens, numbers.params) == (6 * 16, num_params(TEACHER))
    assert numbers.work and numbers.work.flops == 6 * 16 * forward_flops(TEACHER, 16)


def test_a_sweep_scores_each_cut_and_the_teacher() -> None:
    numbers = estimate(SweepConfig(sequences=5, seq_length=16))
    assert numbers.tokens == (3 + 1) * 5 * 16


@pytest.mark.parametrize(("vocab_size", "planes"), [(65_536, 0), (65_537, 1), (131_072, 1), (131_073, 2)])
def test_ids_beyond_16_bits_take_a_plane_a_bit(vocab_size: int, planes: int) -> None:
    assert high_planes(vocab_size) == planes


def test_a_stored_token_takes_its_bytes() -> None:
    ids, logits, rest, loss = 2 * 8, 2 * 8, 4, 2
    assert row_bytes(8, 128) == ids + logits + rest + loss
    assert row_bytes(9, 70_000) == 2 * 9 + 2 * 9 + 2 + rest + loss, "a plane of nine bits takes two bytes"
    numbers = estimate(LogitsConfig(sequences=3, seq_length=16, top_k=8))
    assert (numbers.tokens, numbers.disk) == (48, 48 * row_bytes(8, 128))


def test_a_store_of_unknown_length_has_no_size() -> None:
    numbers = estimate(LogitsConfig(seq_length=16, top_k=8))
    assert (numbers.tokens, numbers.disk, numbers.work) == (None, None, None)


def test_an_import_holds_the_weights_and_one_part_of_both_models() -> None:
    """The embedding is the largest part of a model with many tokens; a layer's share of the rest otherwise."""
    for vocab_size in (128, 4096, None):
        shape = TEACHER.model_copy(update={"vocab_size": vocab_size})
        config = TeacherConfig.model_validate({"model": "a/b", "steps": 0})
        numbers = estimate(config, Models(teacher=shape, before=shape, after=shape, where="teacher", weight_bytes=2))
        params, embedding = num_params(shape), (vocab_size or 0) * 32
        part = embedding if vocab_size == 4096 else (params - embedding) // 4
        assert numbers.job is not None
        peak = numbers.job.peak("cpu")
        assert (numbers.params, numbers.disk, peak.weights) == (params, 2 * params, 2 * params)
        assert (peak.activations, peak.teacher) == (4 * part, 4 * part), "one part of each model in fp32"
        assert peak.logits == 2 * 4 * (2 * 256) * (vocab_size or 0), "both models' logits of two sequences in fp32"


def test_quantization_shrinks_the_matrices_of_layers() -> None:
    numbers = estimate(QuantizeConfig.model_validate({"format": "fp8", "calibration_samples": 4, "seq_length": 16}))
    embedding = 128 * 32
    linear = num_params(STUDENT) - embedding
    assert numbers.tokens == 4 * 16
    assert numbers.disk == pytest.approx(linear * 1 + embedding * 2, rel=0.02)


def test_generation_holds_the_teacher_and_a_batchs_cache() -> None:
    config = GenerateConfig.model_validate({"prompts": "world", "batch": 3, "max_new_tokens": 10, "precision": "bf16"})
    job = estimate(config).job
    assert job is not None
    peak = job.peak("cuda")
    assert peak.weights == 2 * num_params(TEACHER)
    bytes_per_token = 2 * 2 * 4 * 2 * 8  # keys and values in bf16, layers, groups, width of a head
    assert peak.activations == bytes_per_token * 3 * (2 * 10)
    away = config.model_copy(update={"endpoint": "http://a/v1", "endpoint_model": "a"})
    assert away.estimate(MODELS) is None, "a server has its own memory"


def test_answers_count_the_engine_beside_the_model() -> None:
    config = AnswerConfig.model_validate({"batch": 3, "samples": 2, "max_new_tokens": 10, "precision": "bf16"})
    here, there = (estimate(config.model_copy(update={"engine": by})).job for by in (None, AnsweredBy(name="vllm")))
    assert here is not None and there is not None
    assert here.peak("cpu").weights == 2 * num_params(STUDENT)
    assert here.peak("cpu").activations == 4 * 2 * 2 * 8 * 6 * (2 * 10)
    assert there.peak("cpu").total - here.peak("cpu").total == 1.8e9
    assert there.peak("cuda") == here.peak("cuda"), "the GPU is the engine's"
    scored = [EvaluateConfig.model_validate({"mmlu_by": by, "seq_length": 8}) for by in (None, {"name": "vllm"})]
    alone, after = (job.peak("cpu").total for one in scored if (job := estimate(one).job))
    assert 1e9 < after - alone < 1.8e9, "the engine ends before the model is loaded here"
    served = AnsweredBy(name="endpoint", endpoint="http://a", model="a")
    assert config.model_copy(update={"engine": served}).estimate(MODELS) is None


def test_a_score_by_divergence_passes_once_a_layer_and_format() -> None:
    settings = {"formats": ("fp8", "nvfp4"), "seq_length": 16, "calibration_samples": 4, "score_samples": 2}
    by_kl = estimate(SensitivityConfig.model_validate(settings | {"method": "kl_div"}))
    assert by_kl.tokens == 16 * (4 * 2 + 2 * (1 + 4 * 2 * 2))
    by_gradient = estimate(SensitivityConfig.model_validate(settings | {"method": "gradient"}))
    assert by_gradient.tokens == 16 * (4 * 2 + 2)


def test_a_cut_is_made_beside_the_model_it_is_cut_from() -> None:
    numbers = estimate(PruneConfig(num_layers=2))
    assert (numbers.params, numbers.disk) == (num_params(STUDENT), 2 * num_params(STUDENT))
    assert numbers.job
    peak = numbers.job.memory(Parallel(processes=2, pipeline=2), 1, "cpu")
    half = memory.rank_params(TEACHER, Parallel(processes=2, pipeline=2), 1)
    assert (peak.weights, peak.other) == (2 * half, 2 * half + memory.LIBRARIES)


def test_a_sweep_holds_two_models() -> None:
    numbers = estimate(SweepConfig(sequences=5, seq_length=16, precision="bf16"))
    assert numbers.job and numbers.job.peak("cpu").weights == 2 * 2 * num_params(TEACHER)
    assert numbers.work and numbers.tokens
    assert numbers.work.flops == numbers.tokens * 2 * forward_flops(TEACHER, 16)


def test_a_score_holds_the_teacher_unless_it_is_the_model() -> None:
    config = EvaluateConfig(sequences=5, seq_length=16, precision="bf16")
    alone = type(MODELS)(**vars(MODELS) | {"after": TEACHER})
    for models, teacher in ((MODELS, num_params(TEACHER)), (alone, 0)):
        numbers = estimate(config, models)
        assert numbers.job and numbers.tokens == 5 * 16
        peak = numbers.job.peak("cpu")
        assert (peak.weights, peak.teacher) == (2 * num_params(models.after), 2 * teacher)


def test_training_writes_a_checkpoint_beside_those_it_keeps() -> None:
    config = load("tests/recipes/tiny.yaml").distill
    assert config is not None
    config = config.model_copy(update={"checkpoints_kept": 3, "precision": "bf16"})
    numbers, params = estimate(config), num_params(STUDENT)
    assert (numbers.disk, numbers.scratch) == (2 * params, (3 + 1) * 12 * params)
    later = config.model_copy(update={"begun": 2})
    assert estimate(later).tokens == (config.steps - 2) * config.global_batch * config.seq_length
    trunk = first_steps(config, config.steps - 1, 1)
    first = estimate(trunk)
    assert (first.steps, first.disk) == (config.steps - 2, 12 * params), "its artifact is the checkpoint"
    offline = estimate(config.model_copy(update={"offline": True}))
    assert offline.work and offline.tokens
    assert offline.work.flops == offline.tokens * 3 * forward_flops(STUDENT, config.seq_length)


def test_an_evaluation_while_training_adds_two_models() -> None:
    config = load("tests/recipes/tiny.yaml").distill
    assert config is not None
    plain = config.model_copy(update={"evaluation": None})
    watched = config.model_copy(update={"evaluation": EvaluateConfig(sequences=5, seq_length=16)})
    one, other = (estimate(each).job for each in (plain, watched))
    assert one and other
    before, after = one.peak("cpu"), other.peak("cpu")
    batch = passes.batch_of(EvaluateConfig(sequences=5, seq_length=16), EvaluateConfig().batch, "cpu")
    scored = memory.scoring(STUDENT, num_params(STUDENT) + num_params(TEACHER), batch)
    assert after.total - before.total == scored.total - memory.LIBRARIES


def test_a_verification_scores_the_text_twice() -> None:
    """By the engine, then by the simulation."""
    numbers = estimate(VerifyConfig(sequences=5, seq_length=16, batch=3))
    assert (numbers.tokens, numbers.params) == (2 * 5 * 16, num_params(STUDENT))
    assert numbers.job and numbers.job.peak("cpu").weights == 2 * num_params(STUDENT), "one copy at a time"


def test_verification_bounds_are_the_documented_ones() -> None:
    told = VerifyConfig.model_fields["max_difference"].description or ""
    assert (BOUNDS[16], BOUNDS[8], BOUNDS[4]) == (0.003, 0.02, 0.05)
    assert "0.003 for 16-bit weights, 0.02 for 8-bit and 0.05 for 4-bit ones" in told
    assert [VerifyConfig(formats=formats).covers("fp8") for formats in ((), ("fp8",), ("nvfp4",))] == [
        True,
        True,
        False,
    ]


def test_a_smaller_cache_saves_its_share() -> None:
    assert CacheBytes(before=400, after=100).saved == 0.75
