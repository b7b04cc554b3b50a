"""The evaluate flow: models side by side, and against which teacher; jobs are made up."""

from __future__ import annotations

from typing import Any

import pytest

from flows import evaluate
from tests.fixtures.single_stages import ASKS


@pytest.mark.parametrize(("teacher", "key", "against"), [(None, "teacher of run/a", "T"), ("run/t", "run/t", "run/t")])
def test_models_are_compared_with_the_first(teacher: str | None, key: str, against: str, frame: Any) -> None:
    settings = {"models": ["run/a", "other/b"], "teacher": teacher, "data": {"source": "world"}, "evaluate": ASKS}
    _, name, description, _, named, _ = evaluate.evaluate.fn(name="e", settings=settings)
    assert name == "e" and description.startswith("a, b, evaluated on") and named == against
    ((_, models, like, taught, *_), _) = frame.measured[0]
    assert list(models) == ["a", "b"] and (like.name, taught.key) == ("a", key)
    assert frame.asked == [["run/a", "other/b"]]


def test_nothing_is_asked_of_an_engine_without_an_evaluation(frame: Any) -> None:
    evaluate.evaluate.fn(name="e", settings={"models": ["run/a"], "data": {"source": "world"}})
    assert frame.asked == []


def test_settings_that_are_refused_end_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.prefect_pages, "failed", lambda error: f"refused: {error}")
    assert evaluate.evaluate.fn(name="x", settings={"unknown": 1}).startswith("refused: ")
