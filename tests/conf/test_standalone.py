"""Single stages without a recipe are checked as a recipe is, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.load import RecipeError
from conf.stages.data import DataConfig
from conf.standalone import Evaluating, Quantizing, validate_settings

SERVER: dict[str, Any] = {"endpoint": "http://h", "model": "m"}
GSM8K: dict[str, Any] = {"mmlu": None, "benchmarks": {"gsm8k": {}}}
LINE = "q,1,2,3,4,A\n"


def refused(kind: Any, values: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as caught:
        validate_settings(kind, values)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def quantizing(*formats: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo/depth", "quantize": [{"format": name} for name in formats or ("fp8",)]} | more


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        (Evaluating, {"models": ["a/b", "a/b"]}, "models has duplicates: ['a/b', 'a/b']; list each once"),
        (
            Evaluating,
            {"models": ["a/b"], "evaluate": {"mmlu": None, "engine": "vllm"}},
            "evaluate.benchmarks is empty",
        ),
        (
            Evaluating,
            {"models": ["a/b", "a/c"], "evaluate": GSM8K | {"engine": SERVER}},
            "the run has 2 models; say which of them it is, as in {a/c: m}",
        ),
        (
            Evaluating,
            {"models": ["a/b"], "evaluate": {"mmlu": None, "benchmarks": {"gsm8k": {"path": "nowhere.jsonl"}}}},
            "evaluate.benchmarks.gsm8k.path is nowhere.jsonl, which does not exist",
        ),
        (Evaluating, {"models": ["a/b"], "evaluate": {"mmlu": None, "split": "validation"}}, "evaluate.split is valid"),
        (
            Evaluating,
            {"models": ["a/b"], "data": {"source": "world", "decontaminate": {}}},
            "data.decontaminate is set, but nothing is trained here; leave it out",
        ),
        (Evaluating, {"models": ["a/b"], "data": {"source": "nowhere.txt"}}, "data.source names nowhere.txt, which"),
        (Quantizing, quantizing("fp8", "fp8"), "quantize has duplicate formats: ['fp8', 'fp8']; list each once"),
        (Quantizing, quantizing("w4a8_awq", serve={"engine": "vllm"}), "quantize has w4a8_awq, but vLLM 0.32 refuses"),
        (Quantizing, quantizing("w4a8_awq", verify={}), "w4a8_awq"),
        (Quantizing, quantizing("w4a8_awq", evaluate=GSM8K | {"engine": "vllm"}), "quantize has w4a8_awq, but vLLM"),
        (
            Quantizing,
            quantizing(evaluate=GSM8K | {"engine": SERVER | {"model": {"demo/depth-fp4": "m"}}}),
            "choose one of demo/depth, demo/depth-fp8",
        ),
        (DataConfig, {"source": "nowhere.txt"}, "data.source names nowhere.txt, which does not exist; check the path"),
        (DataConfig, {"source": "s3://b/a.txt"}, "source: s3://b/a.txt is an address"),
        (DataConfig, {"source": "world", "filter": {}}, "data.filter has no rules"),
        (DataConfig, {"source": "world", "ranks": 0}, "ranks is 0; it must be at least 1"),
        (DataConfig, {"source": "world", "ranks": 1001}, "ranks is 1001; it must be at most 1000"),
    ],
)
def test_a_stage_that_cannot_run_is_refused(kind: Any, values: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(kind, values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Evaluating, {"models": ["a/b", "a/c"], "data": {"source": "world"}, "evaluate": {"mmlu": None}}),
        (Quantizing, quantizing("fp8", "nvfp4")),
        (Quantizing, quantizing("w4a8_awq", serve={"engine": "tensorrt_llm"})),
        (Quantizing, quantizing(evaluate=GSM8K | {"engine": SERVER | {"model": {"demo/depth-fp8": "m"}}})),
        (DataConfig, {"source": "world"}),
    ],
)
def test_what_can_run_is_read(kind: Any, values: dict[str, Any]) -> None:
    settings = validate_settings(kind, values)
    assert isinstance(settings, kind) and validate_settings(kind, settings) is settings


def test_a_secret_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    values = {"model": "demo/sk-planted-0123456789", "quantize": "no list"}
    for given in (values, Quantizing.model_validate(values | {"quantize": [{"format": "fp8"}]})):
        with pytest.raises(ValueError, match="model contains") as caught:
            validate_settings(Quantizing, given)
        assert "planted" not in str(caught.value)


def mmlu(folder: Path, line: str = LINE) -> dict[str, Any]:
    for split in ("dev", "test"):
        (folder / split).mkdir(exist_ok=True)
        (folder / split / f"odd_{split}.csv").write_text(line)
    return {"mmlu": {"path": str(folder)}}


def test_bad_questions_are_refused(tmp_path: Path) -> None:
    bad = {"models": ["demo/depth"], "evaluate": mmlu(tmp_path, "q,1,2,3,4,BC\n")}
    assert "is not question" in refused(Evaluating, bad)
    assert validate_settings(Evaluating, {"models": ["demo/depth"], "evaluate": mmlu(tmp_path)})


def corpus(**questions: Any) -> dict[str, Any]:
    return {"source": "world", "decontaminate": questions}


def test_a_corpus_names_the_questions_that_it_is_to_lose(tmp_path: Path) -> None:
    assert "data.decontaminate names no questions; set data.decontaminate.mmlu" in refused(DataConfig, corpus())
    assert validate_settings(DataConfig, corpus(benchmarks={"gsm8k": {}}))
    assert validate_settings(DataConfig, corpus(**mmlu(tmp_path), reviewed=["odd/0"]))


@pytest.mark.parametrize(
    ("questions", "sentence"),
    [
        ({"reviewed": ["odd/1"]}, "data.decontaminate.reviewed names question odd/1, but odd has 1"),
        (
            {"benchmarks": {"gsm8k": {"path": "nowhere.jsonl"}}},
            "data.decontaminate.benchmarks.gsm8k.path is nowhere.jsonl, which does not exist",
        ),
    ],
)
def test_questions_that_are_not_there_are_refused(questions: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    assert sentence in refused(DataConfig, corpus(**mmlu(tmp_path), **questions))
    assert "is not question" in refused(DataConfig, corpus(**mmlu(tmp_path, "q,1,2,3,4,BC\n")))


def test_a_setting_that_is_misspelt_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="modles is not a setting; the nearest known key is models"):
        validate_settings(Evaluating, {"modles": ["a/b"]})
