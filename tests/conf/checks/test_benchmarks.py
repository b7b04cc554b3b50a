"""An engine that could not answer a recipe's benchmarks is refused with the recipe."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.checks.benchmarks import _evaluations, check_engine
from conf.load import load
from conf.stages.evaluate import EvaluateConfig
from tests.fixtures.flow import RECIPE, told

SERVED = "{endpoint: http://host/v1, model: tiny}"


@pytest.fixture
def asks(tmp_path: Path) -> str:
    """An override that asks a benchmark."""
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    return f"evaluate.benchmarks={{gsm8k: {{path: {tmp_path / 'gsm8k.jsonl'}, shots: 0}}}}"


def test_an_engine_without_benchmarks_has_nothing_to_answer() -> None:
    unasked = "evaluate.mmlu=null"
    sentence = told("evaluate.engine=vllm", unasked)
    assert (
        "evaluate.engine is vllm, but evaluate.mmlu is null and evaluate.benchmarks is empty, and loss is" in sentence
    )
    assert "evaluate.engine is endpoint, but evaluate.mmlu is null" in told(f"evaluate.engine={SERVED}", unasked)
    load(str(RECIPE), ["evaluate.engine=vllm", "evaluate.precision=bf16"])


def test_who_answers_mmlu_follows_from_the_engine() -> None:
    sentence = told("evaluate.mmlu_by={name: vllm}")
    assert sentence == "evaluate.mmlu_by is set, but it follows from evaluate.engine; set that, and leave mmlu_by out"


def test_a_format_that_vllm_does_not_load_is_refused(asks: str) -> None:
    tiny = [asks, "evaluate.engine=vllm", "evaluate.precision=bf16", "students.width.quantize=true"]
    formats = "quantize=[{format: int8_sq, calibration_samples: 8, seq_length: 32}]"
    sentence = told(*tiny, formats)
    assert "evaluate.engine is vllm and quantize has int8_sq, but vLLM 0.32 refuses the algorithm" in sentence
    assert "set evaluate.engine to simulate" in sentence
    assert "students.depth.quantize names" in told(*tiny, formats, "students.depth.quantize=[fp8]")
    load(str(RECIPE), [*tiny, formats, "students.depth.quantize=false", "students.width.quantize=false"])


def test_quantized_models_are_asked_in_bf16(asks: str) -> None:
    sentence = told(asks, "evaluate.engine=vllm", "evaluate.precision=fp32")
    assert "evaluate.precision fp32, in which vLLM has no kernels for quantized models; set" in sentence
    check_engine(EvaluateConfig(engine="vllm", precision="fp32", benchmarks={"gsm8k": {}}), ["teacher"], ())  # type: ignore[arg-type, dict-item]


def test_choices_that_are_scored_are_no_conversation(asks: str) -> None:
    sentence = told("evaluate.benchmarks={hellaswag: {chat: always}}")
    assert "evaluate.benchmarks.hellaswag.chat is always, but the choices of hellaswag are scored after" in sentence
    load(str(RECIPE), ["evaluate.benchmarks={hellaswag: {chat: auto}, gsm8k: {chat: always}}"])


def test_the_only_model_is_the_server_s() -> None:
    served = {"endpoint": "http://host/v1", "model": "tiny"}
    evaluate = EvaluateConfig.model_validate({"engine": served, "benchmarks": {"gsm8k": {}}})
    check_engine(evaluate, ["teacher"], ())
    with pytest.raises(ValueError, match=r"the run has 2 models; say which of them it is, as in \{depth: tiny\}"):
        check_engine(evaluate, ["teacher", "depth"], ())


def test_every_evaluation_in_training_is_named() -> None:
    both: Any = [SimpleNamespace(distill=SimpleNamespace(evaluation=each)) for each in ("c", "d")]
    students: Any = {
        "one": SimpleNamespace(distill=SimpleNamespace(evaluation="b"), rounds=None),
        "two": SimpleNamespace(distill=None, rounds=(both[0], SimpleNamespace(distill=None), both[1])),
    }
    recipe: Any = SimpleNamespace(distill=SimpleNamespace(evaluation="a"), students=students)
    assert list(_evaluations(recipe)) == [
        ("distill", "a"),
        ("students.one.distill", "b"),
        ("students.two.rounds.1.distill", "c"),
        ("students.two.rounds.3.distill", "d"),
    ]


def test_a_server_s_model_is_one_of_the_run(asks: str) -> None:
    sentence = told(asks, f"evaluate.engine={SERVED}")
    assert "evaluate.engine.model is tiny, but the run has 8 models; say which of them it is, as in {" in sentence
    sentence = told(asks, "evaluate.engine={endpoint: http://host/v1, model: {depth-fp: tiny}}")
    assert "evaluate.engine.model names depth-fp, which the run does not produce; choose one of teacher" in sentence
    recipe = load(str(RECIPE), [asks, "evaluate.engine={endpoint: http://host/v1, model: {depth-fp8: tiny}}"])
    by = recipe.evaluate.engine.by("depth-fp8")
    assert by and by.model == "tiny" and recipe.evaluate.engine.by("depth") is None


def test_no_engine_opens_a_model_that_is_being_trained(asks: str) -> None:
    every = "distill.evaluate_every=2"
    sentence = told(asks, every, "distill.evaluation={engine: vllm, benchmarks: {gsm8k: {}}}")
    assert "distill.evaluation.engine is vllm, but a model that is still being trained is measured here" in sentence
    recipe = load(str(RECIPE), [asks, every, "evaluate.engine=vllm", "evaluate.precision=bf16"])
    distill = recipe.distill_of("depth")
    assert distill and distill.evaluation and distill.evaluation.engine.name == "simulate"
