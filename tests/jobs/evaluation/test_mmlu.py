"""Questions as tasks of lm-eval, and their scores by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from conf.mmlu_files import Subject
from conf.stages.evaluate import Mmlu
from jobs.evaluation import mmlu


def test_accuracy_is_over_all_questions_and_by_subject() -> None:
    marks = {"law": [True, False, True], "art": [False]}
    items = [{"subject": name, "correct": mark} for name, of in marks.items() for mark in of]
    found = mmlu.summary(items)
    assert (found["mmlu"], found["mmlu_n"], found["mmlu_chance"]) == (0.5, 4, 0.25)
    assert found["mmlu_stderr"] == pytest.approx(math.sqrt(0.5 * 0.5 / 4))
    assert found["mmlu_ci95"] == [pytest.approx(0.15, abs=1e-3), pytest.approx(0.85, abs=1e-3)]
    assert found["mmlu_subjects"] == {
        "law": {"accuracy": pytest.approx(2 / 3), "n": 3},
        "art": {"accuracy": 0.0, "n": 1},
    }


def test_what_the_harness_found_is_told_by_question(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = {"doc_id": 3, "acc": 1.0, "filtered_resps": [(-1.5, False), (-0.5, True), (-2.0, False), (-3.0, False)]}
    asked: list[Any] = []

    def evaluate(lm: Any, tasks: dict[str, Any], limit: int | None, **_: Any) -> dict[str, Any]:
        asked.append((sorted(tasks["tasks"]), limit))
        return {"samples": {"mmlu_law": [sample], "mmlu_art": [sample | {"acc": 0.0}]}}

    monkeypatch.setattr(mmlu.lm_eval, "evaluate", evaluate)
    monkeypatch.setattr("lm_eval.api.task.ConfigurableTask", lambda config: config)
    lm: Any = SimpleNamespace(truncated=2)
    subjects = [Subject(name=name, dev=[], test=[]) for name in ("law", "art")]
    scores, items = mmlu.ask_lm(lm, subjects, Mmlu(limit=7, shots=2))
    logprobs = [-1.5, -0.5, -2.0, -3.0]
    assert items == [
        {"subject": "law", "index": 3, "correct": True, "logprobs": logprobs},
        {"subject": "art", "index": 3, "correct": False, "logprobs": logprobs},
    ]
    assert asked == [(["mmlu_art", "mmlu_law"], 7)]
    assert (scores["mmlu"], scores["shots"], scores["mmlu_style"], scores["mmlu_truncated"]) == (0.5, 2, "letters", 2)


def test_an_unknown_subject_gets_the_shipped_wording() -> None:
    subject = Subject(name="my_quiz", dev=[], test=[])
    for style, noun in (("letters", "multiple choice questions"), ("continuation", "questions")):
        config: Any = SimpleNamespace(style=style, shots=3)
        task = mmlu.task_config(subject, config)
        assert task["description"] == f"The following are {noun} (with answers) about my quiz.\n\n"
        assert (task["task"], task["num_fewshot"], "dataset_path" in task) == ("mmlu_my_quiz", 3, False)
    known = mmlu.task_config(Subject(name="sociology", dev=[], test=[]), config)
    assert "sociology" in known["description"]
