"""Benchmarks asked while a student learns: answered and judged as by the stages of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.stages.watched import WatchedBenchmark
from jobs.benchmarks import answering
from jobs.benchmarks.files import QuestionSet, write_questions
from jobs.benchmarks.question import Question
from jobs.benchmarks.table import BENCHMARKS
from jobs.benchmarks.watched import watched
from jobs.evaluation.intervals import wilson
from jobs.huggingface import model as hf
from tests.fixtures.jobs import run_job
from tests.fixtures.scripted import Scripted, small_model

HOW = {"max_new_tokens": 4, "chat": "never", "batch": 2}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A model and three questions, of which one has the answer that the model gives."""
    for name in ("student/model", "questions"):
        (tmp_path / name).mkdir(parents=True)
    small_model(tmp_path / "student" / "model")
    golds = {"say a few": "7", "say": "5", "words": "8"}
    asked = QuestionSet(
        benchmark=BENCHMARKS["gsm8k"],
        shots=0,
        left_out={},
        questions=[Question(id=text, text=text, answer=f"#### {gold}", gold=gold) for text, gold in golds.items()],
        prompts=list(golds),
        seconds={},
    )
    write_questions(tmp_path / "questions", asked, {})
    return {"model": tmp_path / "student", "questions": tmp_path / "questions"}


def test_a_score_is_that_of_the_stages(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student: Any = Scripted(folders["model"] / "model", " 7", ends=True)
    monkeypatch.setattr(hf, "load_model", lambda *_: student)
    monkeypatch.setattr(answering, "Decoder", student.decoder)
    inputs = {"questions-gsm8k": str(folders["questions"])}
    wanted: Any = {"gsm8k": WatchedBenchmark.model_validate(HOW | {"limit": 3})}
    (one,) = watched(inputs, wanted, "fp32", folders["model"] / "model")
    low, high = wilson(1, 3)
    found = one.score(student, folders["model"] / "model")
    assert found == {"gsm8k": 1 / 3, "gsm8k_n": 3, "gsm8k_low": low, "gsm8k_high": high}
    answers = run_job("answer", HOW | {"precision": "fp32"}, folders, tmp_path / "answers")
    judged = run_job("judge", {}, {"questions": folders["questions"], "answers": answers}, tmp_path / "judged")
    assert json.loads((judged / "benchmark.json").read_text())["score"] == found["gsm8k"]


def test_questions_without_room_are_refused_before_the_training(folders: dict[str, Path]) -> None:
    wanted: Any = {"gsm8k": WatchedBenchmark.model_validate(HOW | {"max_new_tokens": 64})}
    with pytest.raises(ValueError, match="3 of 3 questions of gsm8k need up to"):
        watched({"questions-gsm8k": str(folders["questions"])}, wanted, "fp32", folders["model"] / "model")
