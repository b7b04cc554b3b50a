"""What the evaluate stage writes of what is measured, and how it counts its progress; everything is measured by
hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conf.spec import Spec
from conf.stages.evaluate import AnsweredBy
from jobs import evaluate
from jobs.benchmarks import engines
from jobs.evaluation import long_text, responses
from jobs.huggingface import model as hf

SUBJECTS = [SimpleNamespace(test=range(7)), SimpleNamespace(test=range(2))]
SAMPLES = np.zeros((3, 9), np.int64)
LONG = np.zeros((2, 33), np.int64)
LONG_TEXT = {"lengths": [128, 256], "depths": [0.5], "facts": 5}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs it; what was asked of whom."""

    def run(records: int | None = None, long: Any = None, **settings: Any) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        model = object()

        def measure(directory: Path, teacher: Path, samples: Any, subjects: Any, config: Any, progress: Any, do: Any):
            assert (directory, teacher) == (tmp_path / "model" / "model", tmp_path / "teacher" / "model")
            asked.update(subjects=subjects, mmlu=config.mmlu)
            for _ in samples:
                progress(1)
            do(model)
            return {"val_loss": 2.0, "shots": 5}, [{"index": 0}], [{"loss": 1.0}]

        def answer(by: Any, directory: Path, subjects: Any, config: Any, output: Path, progress: Any) -> Any:
            asked["engine"] = (by, subjects, config.mmlu is not None)
            return {"mmlu": 0.5, "val_loss": 3.0}, [{"index": 1}]

        monkeypatch.setattr(evaluate, "check", lambda *_: None)
        monkeypatch.setattr(evaluate, "questions", lambda *_: SUBJECTS)
        monkeypatch.setattr(evaluate, "sequences", lambda *_: SAMPLES)
        monkeypatch.setattr(evaluate, "long_sequences", lambda *_: long)
        monkeypatch.setattr(evaluate, "measure", measure)
        monkeypatch.setattr(engines, "multiple_choice", answer)
        monkeypatch.setattr(hf, "load_tokenizer", lambda _: "tokenizer")
        monkeypatch.setattr(long_text, "measure", lambda *given: asked.update(long=given[:3]) or {"found": []})
        split = None if records in (None, 0) else range(records or 0)
        monkeypatch.setattr(responses, "test_split", lambda *_: split)
        monkeypatch.setattr(responses, "score", lambda *given: asked.update(records=given[1:4]) or {"records": []})
        roles = ["model", "teacher", "data"] + ["records"] * (records is not None)
        inputs = {role: str(tmp_path / role) for role in roles}
        spec = Spec(stage="evaluate", key="k", config=settings, inputs=inputs, output=str(tmp_path))
        evaluate.run(spec)
        return asked

    return run


def total(folder: Path) -> tuple[int, int]:
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return line["step"], line["total"]


def test_what_is_measured_is_written(stage: Callable[..., Any], tmp_path: Path) -> None:
    asked = stage(mmlu={"limit": 5})
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["val_loss"], scores["shots"], scores["mmlu"]) == (2.0, 5, None)
    assert {"mmlu_ci95", "mmlu_truncated", "latency_seconds"} < scores.keys()
    assert json.loads((tmp_path / "items.jsonl").read_text()) == {"index": 0}
    assert json.loads((tmp_path / "sequences.json").read_text()) == [{"loss": 1.0}]
    assert asked["subjects"] is SUBJECTS and "engine" not in asked
    assert total(tmp_path) == (3, 3 + 5 + 2), "at most five questions a subject"
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()
    stage(mmlu={"limit": 5})
    again = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(again) == len(before) == 3, "an attempt counts from its beginning"
    assert not (tmp_path / "responses.json").exists() and not (tmp_path / "long.json").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mmlu": {}}, 3 + 9),
        ({"mmlu": {"limit": 2}, "records": 4}, 3 + 4 + 4),
        ({"mmlu": {"limit": 1}, "records": 400}, 3 + 2 + 128),
        ({"mmlu": {"limit": 1}, "records": 0}, 3 + 2),
        ({"mmlu": {"limit": 1}, "long": LONG, "long_text": LONG_TEXT}, 3 + 2 + 2 + 10),
        ({"mmlu": {"limit": 1}, "long": LONG}, 3 + 2),
    ],
)
def test_all_that_is_read_is_counted(
    given: dict[str, Any], expected: int, stage: Callable[..., Any], tmp_path: Path
) -> None:
    asked = stage(**given)
    assert total(tmp_path) == (3, expected)
    assert (tmp_path / "responses.json").exists() is bool(given.get("records")) is ("records" in asked)
    assert (tmp_path / "long.json").exists() is ("long_text" in given) is ("long" in asked)


def test_an_engine_answers_in_the_models_place(stage: Callable[..., Any], tmp_path: Path) -> None:
    by = {"name": "vllm", "version": "0.32.0"}
    asked = stage(mmlu={}, mmlu_by=by)
    assert asked["engine"] == (AnsweredBy.model_validate(by), SUBJECTS, True)
    assert asked["subjects"] == [] and asked["mmlu"] is None
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["mmlu"], scores["val_loss"]) == (0.5, 3.0)
    items = [json.loads(line)["index"] for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert items == [0, 1]
