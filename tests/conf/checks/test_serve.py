"""A recipe that says where its models are served is refused for formats that do not load there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from conf.checks.serve import check_served, check_verified, told
from conf.load import load
from conf.serve import ServeConfig
from conf.stages.quantize import QuantizeConfig
from conf.stages.verify import VerifyConfig
from tests.fixtures.flow import RECIPE
from tests.fixtures.flow import told as refusal

SMALL = {"calibration_samples": 8, "seq_length": 32}


def entry(**settings: Any) -> str:
    values = ", ".join(f"{name}: {value}" for name, value in (settings | SMALL).items())
    return f"quantize=[{{{values}}}]"


REFUSED: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "a format": (
        "{engine: vllm}",
        {"format": "int4_awq"},
        (
            "quantize has int4_awq, but vLLM 0.32 refuses the algorithm (W4A16_AWQ); choose fp8, fp8_pb_wo, fp8_pc_pt,"
            " nvfp4, nvfp4_mlp_only, nvfp4_omlp_only, or set serve.engine to tensorrt_llm",
        ),
    ),
    "a format of no engine": ("{engine: vllm}", {"format": "int8_sq"}, ("W8A8_SQ_PER_CHANNEL", "nvfp4_omlp_only")),
    "a calibrator": (
        "{engine: vllm}",
        {"format": "nvfp4", "calibrator": "awq_lite"},
        ("quantize has nvfp4-awq_lite", "remove its calibrator, or set serve.engine to tensorrt_llm or sglang"),
    ),
    "a block size": (
        "{engine: vllm}",
        {"format": "fp8_pb_wo", "block_size": 16},
        ("reads fp8_pb_wo in blocks of 128 only, not 16; set its block_size to 128",),
    ),
    "a cache": (
        "{engine: vllm}",
        {"format": "fp8", "kv_cache": "nvfp4_affine"},
        ("k_bias and v_bias", "set its kv_cache to fp8 or nvfp4, or remove it"),
    ),
    "a cache that is dropped": (
        "{engine: sglang}",
        {"format": "fp8", "kv_cache": "nvfp4"},
        ("keeps the cache in the model's type", "set its kv_cache to fp8, or remove it, or set serve.engine to vllm"),
    ),
    "a cache on another GPU": (
        "{engine: vllm, device: H100}",
        {"format": "fp8", "kv_cache": "nvfp4"},
        ("vLLM 0.32 on H100 keeps such a cache on Blackwell only", "set its kv_cache to fp8, or remove it"),
    ),
    "a format on another GPU": (
        "{engine: tensorrt_llm, device: A100 80GB}",
        {"format": "nvfp4"},
        ("on A100 80GB has kernels for Blackwell only", "choose fp8, fp8_pb_wo, fp8_pc_pt, int4_awq, w4a8_awq"),
    ),
    "a mix that is garbage": (
        "{engine: sglang}",
        {"auto": "{formats: [fp8_pc_pt, nvfp4], effective_bits: 12}"},
        ("answers garbage, without an error", "choose auto.formats [fp8, nvfp4]"),
    ),
    "a mix that dies": (
        "{engine: vllm}",
        {"auto": "{formats: [fp8, w4a8_nvfp4_fp8], effective_bits: 12}"},
        ("dies with an AttributeError", "[fp8, fp8_pc_pt] or [fp8, nvfp4] or [fp8_pc_pt, nvfp4]"),
    ),
    "an unknown GPU": ("{engine: vllm, device: H101}", {"format": "fp8"}, ("serve.device is H101", "H100")),
    "an unknown engine": ("{engine: llama.cpp}", {"format": "fp8"}, ("serve.engine is 'llama.cpp'", "sglang")),
    "no engine": ("{device: H100}", {"format": "fp8"}, ("serve", "engine")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_engine_does_not_load_is_refused(case: str) -> None:
    serve, settings, parts = REFUSED[case]
    sentence = refusal(f"serve={serve}", entry(**settings), "students.width.quantize=true")
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("device", ["null", "B200"])
def test_what_it_loads_passes_and_changes_no_stage(device: str) -> None:
    plain = load(str(RECIPE))
    served = load(str(RECIPE), [f"serve={{engine: vllm, device: {device}}}"])
    assert served.serve is not None and served.model_copy(update={"serve": None}) == plain
    assert [each.identity() for each in served.quantize] == [each.identity() for each in plain.quantize]


def test_each_format_has_a_line_about_who_loads_it() -> None:
    entries = [QuantizeConfig(format=name) for name in ("fp8", "int8_sq")]
    lines = told(None, entries)
    assert lines[0].startswith("format fp8: loads in vLLM 0.32 (run), TensorRT-LLM main of 2026-11 (read), SGLang")
    assert lines[1] == "format int8_sq: no engine loads it; it is simulated only"


def test_a_served_format_s_line_says_what_is_different() -> None:
    line = told(ServeConfig(engine="vllm", device="H100"), [QuantizeConfig(format="nvfp4")])[0]
    assert line.startswith("format nvfp4: loads in vLLM 0.32 on H100 (read); it leaves activations in 16 bits (W4A16)")


def test_without_serve_nothing_is_refused() -> None:
    check_served(None, [QuantizeConfig(format="int8_sq"), QuantizeConfig(format="fp8_pb_wo", block_size=16)])


@pytest.mark.parametrize(
    ("settings", "useless"),
    [
        ({"format": "int4_awq", "kv_cache": "fp8"}, "kv_cache"),
        ({"format": "w4a8_awq", "block_size": 128}, "block_size"),
    ],
)
def test_a_change_that_would_not_help_is_not_proposed(settings: dict[str, Any], useless: str) -> None:
    sentence = refusal("serve={engine: vllm}", entry(**settings), "students.width.quantize=true")
    assert "choose fp8" in sentence and f"its {useless}" not in sentence


@pytest.mark.parametrize(
    ("verify", "formats", "sentence"),
    [
        ("{formats: [nvfp4]}", "[fp8]", "verify.formats names nvfp4, which is not in the recipe's quantize"),
        ("{}", "[]", "verify opens quantized models, and the recipe has no quantize; add a format there"),
        ("{}", "[int8_sq]", "W8A8_SQ_PER_CHANNEL); set verify to null"),
        ("{}", "[fp8, int8_sq]", "list in verify.formats what it loads (fp8)"),
    ],
)
def test_what_cannot_be_verified_is_refused(verify: str, formats: str, sentence: str) -> None:
    entries = tuple(QuantizeConfig(format=name) for name in formats.strip("[]").replace(" ", "").split(",") if name)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_verified(VerifyConfig.model_validate(yaml.safe_load(verify)), entries)


def test_formats_left_out_of_verify_may_be_any() -> None:
    entries = [QuantizeConfig(format="fp8"), QuantizeConfig(format="int8_sq")]
    check_verified(VerifyConfig(formats=("fp8",)), entries)
    check_verified(None, entries)
