"""What the report tells of the engines that answered benchmarks."""

from __future__ import annotations

from typing import Any

import pytest

from conf.report.benchmarks import Answerer, BenchmarkRow, BenchmarkScore
from tasks.report.sections import answerers
from tasks.report.sections.benchmarks import section

SCORES: dict[str, Any] = {
    "score": 0.5,
    "n": 20,
    "ci95": [0.3, 0.7],
    "chance": 0,
    "cut_by_length": 0.0,
    "no_answer": 0.0,
    "shots": 5,
    "chat": False,
    "samples": 1,
    "pass_at": {"1": 0.5},
    "others": {},
    "left_out": 0,
}
VLLM: dict[str, Any] = {"engine": "vLLM", "version": "0.32.0", "on_cpu": True}


def row(model: str, by: dict[str, Any] | None, benchmark: str = "gsm8k") -> BenchmarkRow:
    scores = BenchmarkScore.model_validate(SCORES | {"answered_by": by})
    return BenchmarkRow(benchmark=benchmark, model=model, scores=scores)


@pytest.mark.parametrize(
    ("by", "title"),
    [
        (VLLM, "vLLM 0.32.0 on a CPU"),
        (VLLM | {"on_cpu": False}, "vLLM 0.32.0"),
        ({"engine": "SGLang 0.5.23", "model": "tiny"}, "SGLang 0.5.23 as tiny"),
    ],
)
def test_an_engine_in_a_few_words(by: dict[str, Any], title: str) -> None:
    assert Answerer.model_validate(by).title == title == row("a", by).scores.who


def test_what_imbik_answered_itself_is_called_so() -> None:
    made = section((row("a", None),))
    assert made and "answered by" not in made.header and made.notes[1:] == (answerers.SIMULATED,)
    assert row("a", None).scores.who == "imbik"


def test_a_table_says_who_answered() -> None:
    made = section((row("teacher", None), row("small-fp8", VLLM)))
    assert made
    assert made.header[-1] == "answered by"
    assert [cells[-1] for cells in made.rows] == ["imbik", "vLLM 0.32.0 on a CPU"]
    assert made.sentences == (
        "gsm8k was answered by imbik and by vLLM 0.32.0 on a CPU: differences between their models are also those of"
        " the engines.",
    )
    assert all(len(cells) == len(made.header) for cells in made.rows)
    assert made.notes[1:] == (answerers.THE_REST,)


def test_one_engine_for_all_mixes_nothing() -> None:
    made = section((row("teacher", VLLM), row("small", VLLM)))
    assert made and made.sentences == ()


def test_kernels_and_caches_are_told_once_for_a_model() -> None:
    by = VLLM | {"kernels": ["A", "B"], "cache": "bfloat16", "own_cache": False}
    rows = [row("teacher", VLLM), row("small-fp8", by), row("small-fp8", by, "mbpp"), row("small-nvfp4", VLLM)]
    rows.append(row("small-mix", VLLM | {"kernels": ["C"]}))
    assert answerers.notes(rows)[1:] == (
        "Kernels of quantized layers: small-fp8 A, B; small-mix C.",
        "small-fp8: the engine's key-value cache was bfloat16 there, not the model's own.",
    )


@pytest.mark.parametrize(("version", "told"), [("0.32", 0), ("0.32.1", 0), ("0.33.0", 1), ("0.320", 1), ("0.3", 1)])
def test_another_version_than_the_tested_is_told(version: str, told: int) -> None:
    notes = answerers.notes([row("a", VLLM | {"version": version}), row("b", VLLM | {"version": version})])
    expected = f"vLLM {version} is not the version that imbik was tested with (0.32)."
    assert notes.count(expected) == told and len(notes) == 1 + told


@pytest.mark.parametrize(
    "by", [{"engine": "SGLang 0.5", "model": "m"}, VLLM | {"version": None}, VLLM | {"engine": "SGLang"}]
)
def test_of_other_engines_no_version_is_expected(by: dict[str, Any]) -> None:
    assert answerers.notes([row("a", by)]) == (answerers.THE_REST,)
