"""AutoQuantize: scores that do not depend on how they were batched, choices within a budget, refusals of what no choice
meets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import modelopt.torch.quantization as mtq
import numpy as np
import pytest
import torch
from modelopt.torch.quantization.algorithms import QuantRecipe
from pydantic import ValidationError

from conf.checks.quantize import least_bits
from conf.load import load
from conf.shape import Shape
from conf.spec import Spec
from conf.stages.quantize import QuantizeConfig, label_of, scorings
from conf.stages.sensitivity import AutoConfig, SensitivityConfig
from jobs import sensitivity
from jobs.huggingface import model as hf
from jobs.quantization import auto_quantize as mix
from jobs.runtime.entry import Metrics
from tests.fixtures.jobs import refused, run_job
from tests.jobs.test_quantize import models  # noqa: F401 - a fixture

FORMATS = ["fp8", "nvfp4"]
SCORING = {"formats": FORMATS, "score_samples": 6, "calibration_samples": 8, "seq_length": 64, "batch": 3}
CALIBRATION = {"calibration_samples": 8, "seq_length": 64, "batch": 4}
TINY = "tests/recipes/tiny.yaml"


@pytest.fixture(scope="session")
def scored(corpus: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sensitivity of the qwen3 model by both methods."""
    folder, inputs = tmp_path_factory.mktemp("sensitivity"), {"model": models["qwen3"], "data": corpus}
    return {
        method: run_job("sensitivity", SCORING | {"method": method}, inputs, folder / method)
        for method in ("gradient", "kl_div")
    }


def read(folder: Path) -> dict[str, Any]:
    """sensitivity.json."""
    record: dict[str, Any] = json.loads((folder / "sensitivity.json").read_text())
    return record


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ModelOpt's search is given; it scores two groups of layers by numbers made by hand."""
    asked: dict[str, Any] = {}

    def auto_quantize(model: Any, **given: Any) -> tuple[Any, dict[str, Any]]:
        asked.update(given)
        recipes = [QuantRecipe(preset) for preset in given["quantization_formats"]] + [QuantRecipe(None)]
        each = {"formats": recipes, "scores": torch.tensor([1.5, 4.0, 0.0]), "costs": [60.0, 31.0, 100.0]}
        last = {"formats": recipes[2:], "scores": [0.0], "costs": [300.0], "module_names": ("lm_head",)}
        return model, {"candidate_stats": {"a": each | {"module_names": ("a.q", "a.k")}, "b": last}}

    monkeypatch.setattr(mtq, "auto_quantize", auto_quantize)
    return asked


def scored_by_hand(method: str, output: Path, batches: list[torch.Tensor]) -> tuple[list[dict[str, Any]], Any, Any]:
    seen: list[torch.Tensor] = []

    def model(tokens: torch.Tensor, use_cache: bool) -> Any:
        seen.append(tokens)
        return SimpleNamespace(logits=torch.zeros(*tokens.shape, 4))

    model.device = torch.device("cpu")  # type: ignore[attr-defined]
    config = SensitivityConfig.model_validate(SCORING | {"method": method})
    given: Any = model
    return sensitivity._score(given, batches, config, Metrics(output)), given, seen


@pytest.mark.parametrize(("method", "passes"), [("gradient", 5), ("kl_div", 2)])
def test_formats_are_scored_by_weights_alone(method: str, passes: int, engine: dict[str, Any], tmp_path: Path) -> None:
    """Sizes leave out the scales that ModelOpt counts; 8 and 6 samples in threes are three and two passes, but no more
    than there are."""
    batches = [torch.arange(27).view(3, 9) % 4] * passes
    Metrics(tmp_path).log(3)  # of a killed attempt
    groups, given, seen = scored_by_hand(method, tmp_path, batches)
    assert groups == [
        {
            "layers": ["a.q", "a.k"],
            "scores": {"fp8": 1.5, "nvfp4": 4.0, "none": 0.0},
            "sizes": {"fp8": 50.0, "nvfp4": 25.0, "none": 100.0},
        },
        {"layers": ["lm_head"], "scores": {"none": 0.0}, "sizes": {"none": 300.0}},
    ]
    assert engine["constraints"] == {"effective_bits": 16.0}
    assert (engine["num_calib_steps"], engine["num_score_steps"]) == (min(3, passes), 2)
    assert engine["method"] == method and (engine["loss_func"] is None) is (method == "kl_div")
    logits = [engine["forward_step"](given, batches[0]) for _ in range(2)][1]
    assert torch.equal(seen[-1], batches[0][:, :-1])
    if method == "gradient":
        assert float(engine["loss_func"](logits, batches[0])) == pytest.approx(24 * math.log(4)), "a sum over tokens"
        logits[1, 2, batches[0][1, 3]] = 100.0
        assert float(engine["loss_func"](logits, batches[0])) == pytest.approx(23 * math.log(4)), "of the next token"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, None), (2, None)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, None),
        ({"quantization_config": {}}, "is already quantized; score the model it was made from"),
        ({"num_experts": 4}, "mixes experts, whose layers are not scored one by one"),
        ({"max_position_embeddings": 7}, "seq_length 8 is above the model's max_position_embeddings 7"),
    ],
)
def test_the_bounds_of_a_budget_are_told(
    settings: dict[str, Any], words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least are those of every group's smallest format: 4 of 16 bits of a quarter of the weights, of the rest all."""
    groups = [{"sizes": {"fp8": 50.0, "nvfp4": 25.0, "none": 100.0}}, {"sizes": {"none": 300.0}}]
    asked: list[Any] = []
    split = SimpleNamespace(first=lambda count: np.zeros((min(count, 7), 9), np.int64))
    monkeypatch.setattr(hf, "check", lambda _: settings)
    monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
    monkeypatch.setattr(hf, "load_model", lambda *_: None)
    monkeypatch.setattr(sensitivity, "mixes_experts", lambda _: "num_experts" in settings)
    monkeypatch.setattr("jobs.tokens.blend_reader.sample_split", lambda *given: asked.append(given[1:]) or split)
    monkeypatch.setattr(
        sensitivity, "_score", lambda model, batches, *_: asked.append(list(map(len, batches))) or groups
    )
    config = SCORING | {"seq_length": 8, "calibration_samples": 9, "score_samples": 6, "batch": 3}
    inputs = dict.fromkeys(("model", "data"), str(tmp_path))
    spec = Spec(stage="sensitivity", key="k", config=config, inputs=inputs, output=str(tmp_path))
    if words:
        with pytest.raises(ValueError, match=words):
            sensitivity.run(spec)
        return
    sensitivity.run(spec)
    assert asked == [(8, 9), [3, 3, 1]]
    found = read(tmp_path)
    assert found["bits"] == {"least": 16 * (25 + 300) / 400, "most": 16.0}
    assert (found["samples"], found["method"], found["groups"]) == (6, "gradient", groups)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient", "kl_div"])
def test_fewer_bits_cost_more_on_every_layer(scored: Any, method: str) -> None:
    groups = read(scored[method])["groups"]
    layers = [layer for group in groups for layer in group["layers"]]
    assert len(layers) == len(set(layers)) == 15  # seven of each of two decoder layers, and the output layer
    together = [{name.rpartition(".")[2] for name in group["layers"]} for group in groups]
    assert {"q_proj", "k_proj", "v_proj"} in together and {"gate_proj", "up_proj"} in together
    for group in groups[:-1]:
        assert group["scores"]["nvfp4"] > group["scores"]["fp8"] > group["scores"]["none"] == 0
        assert group["sizes"]["nvfp4"] * 4 == group["sizes"]["fp8"] * 2 == group["sizes"]["none"]
    assert list(groups[-1]["scores"]) == ["none"]


@pytest.mark.slow
def test_gradient_scores_do_not_depend_on_batch_size(
    corpus: Path,
    models: dict[str, Path],
    scored: Any,
    tmp_path: Path,
) -> None:
    again = run_job(
        "sensitivity", SCORING | {"batch": 6}, {"model": models["qwen3"], "data": corpus}, tmp_path / "again"
    )
    for one, other in zip(read(scored["gradient"])["groups"], read(again)["groups"], strict=True):
        assert one["scores"] == pytest.approx(
            other["scores"], rel=0.05
        )  # bf16, and eight calibration sequences in other batches


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient", "kl_div"])
def test_larger_budget_gives_sensitive_layers_more_bits(scored: Any, method: str) -> None:
    record = read(scored[method])
    bits, losses = [], []
    for budget in (record["bits"]["least"], 9, 10, 12, 15.9):
        config = AutoConfig(formats=tuple(FORMATS), effective_bits=budget, method=method)
        chosen = mix.choose(record, config)
        assert chosen.effective_bits <= budget + 1e-9
        bits.append(chosen.effective_bits)
        losses.append(sum(group["scores"][group["format"]] for group in chosen.groups))
    assert bits == sorted(bits) and bits[0] == pytest.approx(record["bits"]["least"])
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


@pytest.mark.slow
def test_a_mix_is_exported_layer_by_layer_and_read_back(corpus: Path, models: Any, scored: Any, tmp_path: Path) -> None:
    inputs = {"model": models["qwen3"], "data": corpus, "sensitivity": scored["gradient"]}
    budget = round(read(scored["gradient"])["bits"]["least"] + 0.7, 2)
    auto = {"formats": FORMATS, "effective_bits": budget, "score_samples": 6}
    output = run_job("quantize", CALIBRATION | {"auto": auto, "kv_cache": "fp8"}, inputs, tmp_path / "mix")
    record = json.loads((output / "quantize.json").read_text())
    chosen = {layer: group["format"] for group in record["auto"]["groups"] for layer in group["layers"]}
    assert {measured["format"].lower() for measured in record["layers"].values()} == set(FORMATS)
    assert {layer: measured["format"].lower() for layer, measured in record["layers"].items()} == {
        layer: form for layer, form in chosen.items() if form != "none"
    }
    settings = json.loads((output / "model" / "hf_quant_config.json").read_text())["quantization"]
    assert (settings["quant_algo"], settings["kv_cache_quant_algo"]) == ("MIXED_PRECISION", "FP8")
    assert record["verified"]["logits_equal"] and record["auto"]["effective_bits"] <= budget
    assert all(engine["loads"] for engine in record["engines"].values())


@pytest.mark.slow
def test_unreachable_budgets_and_other_scores_are_refused(
    corpus: Path,
    models: Any,
    scored: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    inputs = {"model": models["qwen3"], "data": corpus, "sensitivity": scored["gradient"]}

    def told(**auto: Any) -> str:
        return refused(
            "quantize",
            CALIBRATION | {"auto": {"formats": FORMATS, "effective_bits": 12} | auto},
            inputs,
            tmp_path / "out",
            capfd,
        )

    assert "effective_bits is 4.1 but no choice of fp8, nvfp4 takes fewer than" in told(effective_bits=4.1)
    assert "not what quantize.auto sets" in told(method="kl_div")
    assert "not what quantize.auto sets" in told(formats=["fp8"])


def test_unreachable_budgets_are_refused_with_the_bounds() -> None:
    auto = "quantize=[{auto: {formats: [fp8, nvfp4], effective_bits: %s}, seq_length: 64}]"
    drop = ["students.width=null", "teacher.shape.head_dim=16"]
    with pytest.raises(
        ValueError, match=r"effective_bits is 4.2 but students.depth needs at least \d+\.\d\d bits.*choose"
    ):
        load(TINY, [auto % 4.2, *drop])
    assert load(TINY, [auto % 14, *drop]).quantize[0].name == "auto-14"


def test_the_bound_is_the_one_that_modelopt_counts() -> None:
    shape = Shape(
        num_layers=1, hidden_size=32, ffn_hidden_size=64, num_attention_heads=2, num_query_groups=1, vocab_size=100
    )
    config = QuantizeConfig(auto={"formats": ("fp8", "nvfp4"), "effective_bits": 8})
    linear, output = 32 * (2 * (32 + 16) + 3 * 64), 3200
    assert least_bits(config, shape) == pytest.approx((4 * linear + 16 * output) / (linear + output))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({}, "exactly one of format and auto"),
        ({"format": "fp8", "auto": {"formats": ["fp8"], "effective_bits": 9}}, "exactly one of format and auto"),
        ({"auto": {"formats": ["int4_awq"], "effective_bits": 9}}, "auto.formats has int4_awq"),
        ({"auto": {"formats": ["fp8", "fp8"], "effective_bits": 9}}, "auto.formats has duplicates"),
        ({"auto": {"formats": ["fp8"], "effective_bits": 16}}, "less than 16"),
        (
            {"auto": {"formats": ["fp8"], "effective_bits": 9}, "calibrator": "mse"},
            "calibrator is set, but auto uses the default",
        ),
    ],
)
def test_mixes_that_make_no_sense_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        QuantizeConfig(**values)


def test_budgets_share_their_scores_and_other_scorings_do_not() -> None:
    autos = [{"effective_bits": 6}, {"effective_bits": 8}, {"effective_bits": 8, "method": "kl_div"}]
    configs = tuple(QuantizeConfig(auto={"formats": ["fp8", "nvfp4"]} | auto) for auto in autos)
    found = scorings("small", (*configs, QuantizeConfig(format="fp8")))
    assert list(found) == ["sensitivity-small", "sensitivity-small-2"]
    assert [label_of(config, found) for config in configs] == [
        "sensitivity-small",
        "sensitivity-small",
        "sensitivity-small-2",
    ]
    assert label_of(QuantizeConfig(format="fp8"), found) is None
