"""Prompts and scored requests are lm-eval's, string by string: its own tasks render the same rows."""

from __future__ import annotations

import ast
import functools
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask

from jobs.benchmarks.prompts import prompts
from jobs.benchmarks.question import Question, Row
from jobs.benchmarks.reading import Questions
from jobs.benchmarks.table import BENCHMARKS
from tests.jobs.benchmarks.test_table import SHIPPED, TASKS, shipped_task


@pytest.fixture(autouse=True, scope="module")
def templates_compiled_once() -> Iterator[None]:
    """lm-eval compiles each template anew for each question, which takes minutes here."""
    from lm_eval.utils import env

    compile_template, env.from_string = env.from_string, functools.cache(env.from_string)
    yield
    env.from_string = compile_template


def shipped(name: str) -> dict[str, Any]:
    """lm-eval's task as a dict, with its functions."""
    path = SHIPPED / TASKS[name]
    task: dict[str, Any] = _resolved(_without_hub(shipped_task(path)), functools.partial(_function, path.parent))
    return task


def _resolved(value: Any, functions: Callable[[str], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, functions) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, functions) for item in value]
    return functions(value[1]) if isinstance(value, tuple) else value


def _function(folder: Path, name: str) -> Any:
    module, function = name.split(".")
    source = (folder / f"{module}.py").read_text()
    if "hf_evaluate" not in source:
        return getattr(importlib.import_module(f"lm_eval.tasks.{folder.name}.{module}"), function)
    node = next(node for node in ast.parse(source).body if getattr(node, "name", "") == function)
    names: dict[str, Any] = {}
    exec(compile(ast.Module([node], []), name, "exec"), names)
    return names[function]


def _without_hub(task: dict[str, Any]) -> dict[str, Any]:
    del task["dataset_path"]
    task.pop("filter_list", None)
    return task | {"metric_list": [{"metric": "acc" if task["output_type"] == "multiple_choice" else "exact_match"}]}


def theirs(name: str, splits: dict[str, list[Row]], shots: int) -> list[list[tuple[str, Any]]]:
    """(prompt, continuation) of each request of each question, as lm-eval would send them."""
    data = DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})
    task = ConfigurableTask(config=shipped(name) | {"num_fewshot": shots, "custom_dataset": lambda **_: data})
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    requests: dict[int, list[tuple[str, Any]]] = {}
    for request in task.instances:
        prompt, more = request.args
        requests.setdefault(request.doc_id, []).append((prompt, more if isinstance(more, str) else None))
    return [requests[number] for number in sorted(requests)]


def ours(name: str, test: list[Row], examples: list[Row], shots: int) -> list[list[tuple[str, str | None]]]:
    benchmark = BENCHMARKS[name]
    questions = [question for row in test if benchmark.wanted(question := benchmark.parse(row))]
    read = Questions(test=questions, examples=[*benchmark.examples] or [benchmark.parse(row) for row in examples])
    return [
        _requests(question, prompt) for question, prompt in zip(questions, prompts(benchmark, read, shots), strict=True)
    ]


def _requests(question: Question, prompt: str) -> list[tuple[str, str | None]]:
    if not question.choices:
        return [(prompt, None)]
    return [(prompt + choice.context, choice.continuation) for choice in question.choices]


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def hub_arc(row: Row) -> Row:
    choices = row["question"]["choices"]
    return {
        "id": row["id"],
        "question": row["question"]["stem"],
        "choices": {key: [choice[key] for choice in choices] for key in ("text", "label")},
        "answerKey": row["answerKey"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 5])
def test_gsm8k_prompts_are_lm_evals(shared_data: Path, shots: int) -> None:
    test, train = (lines(shared_data / "gsm8k" / f"{split}.jsonl") for split in ("test", "train"))
    assert ours("gsm8k", test, train, shots) == theirs("gsm8k", {"train": train, "test": test}, shots)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shots"), [("arc_easy", 0), ("arc_challenge", 0), ("arc_challenge", 25)])
def test_arc_prompts_are_lm_evals(shared_data: Path, name: str, shots: int) -> None:
    files = name.replace("arc_", "ARC-").replace("easy", "Easy").replace("challenge", "Challenge")
    test, train = (lines(shared_data / "arc" / f"{files}-{split}.jsonl") for split in ("Test", "Dev"))
    hub = {"train": [hub_arc(row) for row in train], "test": [hub_arc(row) for row in test]}
    assert ours(name, test, train, shots) == theirs(name, hub | {"validation": hub["train"]}, shots)
    assert ours(name, hub["test"], hub["train"], shots) == ours(name, test, train, shots)


def test_humaneval_prompts_are_lm_evals(shared_data: Path) -> None:
    rows = lines(shared_data / "humaneval" / "HumanEval.jsonl")
    assert ours("humaneval", rows, [], 0) == theirs("humaneval", {"test": rows}, 0)


@pytest.mark.parametrize("shots", [0, 3])
def test_mbpp_prompts_are_lm_evals(shared_data: Path, shots: int) -> None:
    rows = lines(shared_data / "mbpp" / "mbpp.jsonl")
    test = [row for row in rows if 11 <= row["task_id"] <= 510]
    assert len(test) == 375
    assert ours("mbpp", rows, [], shots) == theirs("mbpp", {"test": test}, shots)


HELLASWAG = [
    {
        "ind": number,
        "activity_label": label,
        "ctx_a": first,
        "ctx_b": second,
        "endings": ["runs  off.", "[header] sits [step] down.", "eats a [title] pie.", "sleeps."],
        "label": str(number % 4),
        "source_id": "activitynet~x",
    }
    for number, (label, first, second) in enumerate(
        [
            ("Roof shingle removal", "A man is sitting on a roof.", "he"),
            ("Home and Garden", "[header] How to mow [title] Buy a mower.", ""),
            ("Sports", " A dog  runs.", "the dog [substeps] then"),
            ("Food", "A cook peels.", "she"),
        ]
    )
]
WINOGRANDE = [
    {"sentence": "The cup broke the tray because the _ was heavy.", "option1": "cup", "option2": "tray", "answer": "1"},
    {"sentence": "Ann thanked Eve as _ had helped.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    {"sentence": "Sam saw Kim but _ hid.", "option1": "Sam", "option2": "Kim", "answer": "2"},
    {"sentence": "Tom beat Bob, so _ was sad.", "option1": "Tom", "option2": "Bob", "answer": "2"},
]
MMLU_PRO = [
    {
        "question_id": number,
        "question": f"What is the {number}th rule?",
        "options": [" none", "all", "some "],
        "answer": "B",
        "answer_index": 1,
        "cot_content": f"A: Let's think step by step. It is rule {number}. The answer is (B).",
        "category": "law",
        "src": "x",
    }
    for number in range(4)
]


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize(
    ("name", "split", "examples_split", "rows"),
    [
        ("hellaswag", "validation", "train", HELLASWAG),
        ("winogrande", "validation", "train", WINOGRANDE),
        ("mmlu_pro", "test", "validation", MMLU_PRO),
    ],
)
def test_other_prompts_are_lm_evals(name: str, split: str, examples_split: str, rows: list[Row], shots: int) -> None:
    splits = {split: rows[:2], examples_split: rows[1:]}
    assert ours(name, rows[:2], rows[1:], shots) == theirs(name, splits, shots)
