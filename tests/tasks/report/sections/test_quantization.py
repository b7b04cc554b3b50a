"""The sections on quantization: the worst layers, and the formats of a mix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.contract import record
from conf.engines.verdict import Contents, verdicts
from conf.report.quantization import Quantized
from tasks.report.plots.quantization import worst_by_layer
from tasks.report.sections.quantization import decibels, join_layers, layer_matrix, read_quantized, sections
from tests.fixtures.report import quantized

MODELS = {"s-fp8": Quantized.model_validate(quantized(1.21)), "s-nvfp4": Quantized.model_validate(quantized(1.5))}


def test_the_lowest_ratio_comes_first_and_no_error_last() -> None:
    errors = sections(MODELS)[0]
    assert errors.rows == (
        ("s-fp8", "model.layers.1.self_attn.q_proj", "NVFP4", "20.3 dB", "12.1 dB", "192"),
        ("s-nvfp4", "model.layers.1.self_attn.q_proj", "NVFP4", "20.3 dB", "15.0 dB", "192"),
        ("s-fp8", "model.layers.0.mlp.down_proj", "FP8", "31.4 dB", "no error", "192"),
        ("s-nvfp4", "model.layers.0.mlp.down_proj", "FP8", "31.4 dB", "no error", "192"),
    )
    assert errors.sentences[0] == (
        "s-fp8: model.layers.1.self_attn.q_proj has the largest error, 12.1 dB in its outputs. The model was calibrated"
        " on 3 sequences, 192 tokens."
    )


def test_the_table_shows_the_ten_worst() -> None:
    layer: dict[str, Any] = {"format": "FP8", "weights_db": 30.0, "samples": 1, "tokens": 1}
    layers = {f"m.{number}.q_proj": layer | {"outputs_db": float(number)} for number in range(12)}
    (errors,) = sections({"s": Quantized.model_validate({"layers": layers})})
    assert [row[4] for row in errors.rows] == [f"{number}.0 dB" for number in range(10)]
    assert "the 10 worst of 12 layers" in errors.notes[0]


def test_the_tokens_that_experts_saw_are_told() -> None:
    layer: dict[str, Any] = {"format": "FP8", "weights_db": 30.0, "outputs_db": 20.0, "samples": 0}
    layers = {
        f"model.layers.0.mlp.experts.{expert}.{part}_proj": layer | {"tokens": tokens}
        for expert, tokens in enumerate((12, 640, 0))
        for part in ("gate", "up", "down")
    }
    (errors,) = sections({"s": Quantized.model_validate({"layers": layers, "samples": 1, "tokens": 652})})
    assert errors.sentences[0].endswith(
        "on 1 sequences, 652 tokens. Its 3 experts saw 0 to 640 of them; 1 saw none, so that their inputs have the"
        " range of their layer's others."
    )


def test_a_mix_counts_formats_and_bits() -> None:
    mixes = sections(MODELS)[1]
    assert mixes.sentences[0] == (
        "s-fp8: 6.50 bits per weight of 7 allowed (at least 5.00 are possible), chosen by gradient; of 5 layers, 1 in"
        " fp8, 1 unquantized, 3 in nvfp4."
    )
    assert mixes.rows[1] == ("s-fp8", "model.layers.1.self_attn.{q,k,v}_proj", "nvfp4", "nvfp4 4.5, fp8 0.25")
    assert mixes.rows[2] == ("s-fp8", "lm_head", "none", "-")


def test_one_format_for_all_layers_has_no_mix() -> None:
    plain = MODELS["s-fp8"].model_copy(update={"auto": None})
    assert [text.title for text in sections({"s": plain})] == ["Quantization error by layer"]
    assert sections({"s": Quantized()}) == []


def test_engines_have_a_row_for_each_model() -> None:
    judged = {
        "s-fp8": record(verdicts(Contents(algorithms=("FP8",)))),
        "s-int8": record(verdicts(Contents(algorithms=("W8A8_SQ_PER_CHANNEL",)))),
    }
    models = {
        name: Quantized.model_validate(quantized(1.21) | {"engines": engines}) for name, engines in judged.items()
    }
    text = sections(models)[-1]
    assert text.title == "Inference engines" and len(text.rows) == 6
    assert text.rows[0][:3] == ("s-fp8", "vLLM 0.32", "loads (run)")
    assert text.rows[3] == ("s-int8", "vLLM 0.32", "does not load (run)", "refuses the algorithm (W8A8_SQ_PER_CHANNEL)")
    assert text.sentences == ("No engine loads s-int8: simulated only.",)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        (("a.q_proj",), "a.q_proj"),
        (("a.q_proj", "b.k_proj"), "a.q_proj, b.k_proj"),
        (("a.gate_proj", "a.up_proj"), "a.{gate,up}_proj"),
    ],
)
def test_layers_of_one_parent_are_joined(layers: tuple[str, ...], name: str) -> None:
    assert join_layers(layers) == name


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("model.layers.12.self_attn.q_proj", (12, "q")),
        ("model.layers.3.mlp.down_proj", (3, "down")),
        ("lm_head", None),
    ],
)
def test_a_module_names_layer_and_matrix(module: str, place: tuple[int, str] | None) -> None:
    assert layer_matrix(module) == place


def test_decibels_have_one_decimal() -> None:
    assert (decibels(12.34), decibels(0.0), decibels(None)) == ("12.3 dB", "0.0 dB", "no error")


def test_the_worst_output_of_a_layer_is_drawn() -> None:
    layer: dict[str, Any] = {"format": "FP8", "weights_db": 30.0, "samples": 1, "tokens": 1}
    outputs = {"m.1.mlp.up_proj": 9.0, "m.0.mlp.up_proj": 12.0, "m.1.mlp.down_proj": 8.0, "lm_head": 1.0}
    layers = {name: layer | {"outputs_db": value} for name, value in outputs.items()}
    layers["m.2.mlp.up_proj"] = layer | {"outputs_db": None}
    assert worst_by_layer(Quantized.model_validate({"layers": layers})) == {0: 12.0, 1: 8.0}


def test_quantize_json_is_read_by_model(tmp_path: Path) -> None:
    (tmp_path / "quantize.json").write_text(json.dumps(quantized(1.0) | {"unknown": 1}))
    assert read_quantized({"s": str(tmp_path)}) == {"s": Quantized.model_validate(quantized(1.0))}
