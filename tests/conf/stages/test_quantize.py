"""What an entry of `quantize` is called, how many bits its weights take, and what helps where it does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from conf.estimate import memory, passes
from conf.estimate.flops import forward_flops
from conf.formats import Widths, kv_misfit, misfit
from conf.parallel import Parallel
from conf.shape import num_params
from conf.stages.quantize import QuantizeConfig, label_of, scorings
from tests.fixtures.stages import MODELS, STEPS, STUDENT, estimate, refused


def entry(format_: str | None = "fp8", **settings: Any) -> QuantizeConfig:
    return QuantizeConfig.model_validate({"format": format_} | settings)


def auto(bits: float, **settings: Any) -> QuantizeConfig:
    return entry(None, auto={"formats": ["fp8", "nvfp4"], "effective_bits": bits} | settings)


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        (entry("fp8"), 8),
        (entry("fp8_pb_wo"), 8),
        (entry("nvfp4"), 4 + 8 / 16),
        (entry("nvfp4_mlp_only"), (2 * 4.5 + 16) / 3),
        (entry("w4a8_nvfp4_fp8"), 4 + 8 / 32),
        (entry("int4_awq"), 4 + 32 / 128),
        (entry("w4a8_awq", block_size=64), 4 + 32 / 64),
        (auto(5.5), 5.5),
    ],
)
def test_bits_of_a_weight_include_its_scale(config: QuantizeConfig, bits: float) -> None:
    assert config.bits == bits
    linear = num_params(STUDENT) - 128 * 32
    assert estimate(config).disk == int(linear * bits / 8 + 2 * 128 * 32)


def test_a_name_tells_what_differs_from_the_default() -> None:
    assert entry("fp8").name == "fp8"
    assert entry("nvfp4", calibrator="awq_lite", kv_cache="fp8").name == "nvfp4-awq_lite-kv_fp8"
    assert entry(qad=STEPS).name == "fp8-qad"
    assert (auto(6).name, auto(6.5, method="kl_div").name) == ("auto-6", "auto-6.5-kl_div")
    assert (entry("int8_sq").method, auto(6).method) == ("smoothquant", "max")


def test_a_checkpoint_holds_the_algorithms_of_its_layers() -> None:
    one, mixed = entry("nvfp4", calibrator="awq_lite").contents, auto(6).contents
    assert (one.algorithms, one.mixed, one.blocks) == (("NVFP4_AWQ",), False, {})
    assert (mixed.algorithms, mixed.mixed, mixed.blocks) == (("FP8", "NVFP4"), True, {})
    assert entry("int4_awq").contents.blocks == {"W4A16_AWQ": (128,)}
    assert entry("int4_awq", block_size=64).contents.blocks == {"W4A16_AWQ": (64,)}


def widths(ffn: int, kv: int = 128, head: int = 64) -> Widths:
    return Widths(
        hidden=("hidden", 256), ffn=("ffn", ffn), heads=("heads", 256), kv=("kv", kv), head_dim=("head", head)
    )


@pytest.mark.parametrize(
    ("format_", "ffn", "remedy"),
    [
        ("int4_awq", 200, "prune it to 128 or choose fp8, which fits every width"),
        ("int4_awq", 320, "prune it to 256 or set quantize.block_size to 64 or choose fp8, which fits every width"),
        ("int4_awq", 64, "set quantize.block_size to 64 or choose fp8, which fits every width"),
        ("nvfp4", 40, "prune it to 32 or choose fp8, which fits every width"),
    ],
)
def test_what_helps_a_width_that_does_not_fit(format_: str, ffn: int, remedy: str) -> None:
    config, sizes = entry(format_), widths(ffn)
    found = config.misfit(sizes)
    assert found and found[:2] == ("ffn", ffn)
    assert config.remedy(found, sizes) == remedy


def test_blocks_that_no_engine_reads_are_told() -> None:
    config, sizes = entry("int4_awq"), widths(288)
    found = config.misfit(sizes)
    assert found
    assert "set quantize.block_size to 32 (which no engine reads: it is simulated only)" in config.remedy(found, sizes)


def test_heads_are_not_cut_to_fit() -> None:
    sizes = widths(256, kv=65)
    odd = misfit("int4_awq", None, sizes)
    assert odd and odd[:3] == ("kv", 65, 2)
    assert "prune" not in entry("int4_awq").remedy(odd, sizes)
    square = misfit("fp8_pb_wo", 64, widths(256, kv=96))
    assert square and square[:3] == ("kv", 96, 64)
    narrow = widths(256, head=24)
    cache = kv_misfit("nvfp4", narrow)
    assert cache and cache[:3] == ("head", 24, 16)
    assert entry(kv_cache="nvfp4").remedy(cache, narrow) == "set kv_cache to fp8, which fits every head, or remove it"
    assert kv_misfit("nvfp4", widths(256)) is None is kv_misfit("fp8", narrow)
    assert misfit("nvfp4_mlp_only", None, Widths(**vars(widths(256)) | {"heads": ("heads", 40)})) is None
    assert misfit("nvfp4_omlp_only", None, Widths(**vars(widths(256)) | {"heads": ("heads", 40)})) is not None


def test_budgets_of_one_sensitivity_share_its_scores() -> None:
    first, second, other, plain = auto(6), auto(7), auto(6, method="kl_div"), entry()
    scored = scorings("small", (plain, first, second, other))
    assert list(scored) == ["sensitivity-small", "sensitivity-small-2"]
    labels = [label_of(config, scored) for config in (plain, first, second, other)]
    assert labels == [None, "sensitivity-small", "sensitivity-small", "sensitivity-small-2"]


def batch(sequences: int) -> passes.ForwardPass:
    return passes.ForwardPass(sequences=sequences, seq_length=16, precision="bf16", device="cpu")


def test_a_quantizer_holds_the_model_three_times() -> None:
    config, params = entry(seq_length=16, batch=3), num_params(STUDENT)
    job = estimate(config).job
    assert job
    found = job.peak("cpu")
    assert (found.weights, found.logits, found.other) == (3 * 2 * params, 4 * 3 * 16 * 128, memory.LIBRARIES)
    assert found.activations == passes.forward_bytes(STUDENT, batch(3), Parallel())


def test_distilling_into_a_quantized_model_is_training() -> None:
    config = entry(seq_length=16, calibration_samples=4, qad=STEPS)
    numbers, learned = estimate(config), 10 * 8 * 16
    assert (numbers.tokens, numbers.steps) == (4 * 16 + learned, 10)
    assert numbers.work and numbers.work.flops == learned * (3 + 1) * forward_flops(STUDENT, 16)
    assert numbers.job and config.qad
    assert numbers.job.peak("cpu") == memory.training(STUDENT, config.qad, "cpu", STUDENT)


@pytest.mark.parametrize(
    ("settings", "each", "layers"), [({}, 10, 1), ({"qad": STEPS}, 8, 2)], ids=["calibrated", "distilled"]
)
def test_whole_scores_are_counted_where_they_are_capped(settings: dict[str, Any], each: int, layers: int) -> None:
    """transformers holds those of a layer, and in training keeps those of all."""
    capped, plain = (STUDENT.model_copy(update={"architecture": name}) for name in ("gemma2", "gemma3_text"))
    config = entry(seq_length=16, calibration_samples=4, batch=3, **settings)
    found = []
    for shape in (capped, plain):
        models = type(MODELS)(**vars(MODELS) | {"after": shape})
        job = estimate(config, models).job
        assert job
        found.append(job.peak("cpu").activations)
    trained = 0 if not config.qad else memory.training(capped, config.qad, "cpu", capped).activations
    passed = passes.forward_bytes(capped, batch(3), Parallel())
    sequences, length = (config.qad.micro_batch, config.qad.seq_length) if config.qad else (3, 16)
    assert found[0] == (trained or passed) + layers * each * sequences * 4 * length**2
    assert found[0] > found[1]


def test_an_unknown_vocabulary_has_neither_rows_nor_logits() -> None:
    shape = STUDENT.model_copy(update={"vocab_size": None})
    numbers = estimate(entry(), type(MODELS)(**vars(MODELS) | {"after": shape}))
    assert numbers.disk == num_params(shape), "all of it in 8 bits"
    assert numbers.job and numbers.job.peak("cpu").logits == 0


def test_an_untied_output_is_not_quantized() -> None:
    shape = STUDENT.model_copy(update={"tie_word_embeddings": False})
    models = type(MODELS)(**vars(MODELS) | {"after": shape, "weight_bytes": 4})
    assert estimate(entry(), models).disk == num_params(shape) - 2 * 128 * 32 + 4 * 2 * 128 * 32


BOTH = {"auto": {"formats": ["fp8"], "effective_bits": 8}}
ONE = "an entry of quantize needs exactly one of format and auto; set one"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, ONE),
        (BOTH | {"format": "fp8"}, ONE),
        (BOTH | {"calibrator": "max"}, "quantize.calibrator is set, but auto uses the default of each format"),
        (BOTH | {"block_size": 64}, "quantize.block_size is set, but auto uses the default of each format"),
        ({"format": "fp8", "calibrator": "awq_lite"}, "quantize.calibrator is awq_lite, which does not work with fp8"),
        ({"format": "fp8", "block_size": 64}, "quantize.block_size is 64 but fp8 has no blocks; remove it or choose"),
        ({"format": "nvfp4", "block_size": 64}, "quantize.block_size is 64 but nvfp4 has fixed blocks of 16"),
        ({"format": "int4_awq", "block_size": 65}, "quantize.block_size is 65; choose "),
    ],
)
def test_an_entry_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    refused(QuantizeConfig, settings, told)
