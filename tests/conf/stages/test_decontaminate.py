"""Questions that are taken out of training text: which stage reads them, and what a person may allow."""

from __future__ import annotations

import pytest

from conf.stages.decontaminate import Decontaminate, LookedFor
from tests.fixtures.stages import refused


def test_questions_are_looked_for_without_worked_examples() -> None:
    asked = LookedFor(path="/q.jsonl", limit=7).questions("gsm8k")
    assert (asked.benchmark, asked.path, asked.shots, asked.limit) == ("gsm8k", "/q.jsonl", 0, 7)


@pytest.mark.parametrize("entry", ["gsm8k/12", "high_school_physics/0", "0123456789abcdef"])
def test_a_question_or_a_document_may_be_allowed(entry: str) -> None:
    allowed = Decontaminate(reviewed=(entry,))
    assert (allowed.reviewed, allowed.min_coverage) == ((entry,), 0.5)


@pytest.mark.parametrize(
    "entry",
    ["gsm8k", "gsm8k/", "gsm8k/-1", "gsm8k/1/2", "a b/1", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"],
)
def test_anything_else_cannot_be_allowed(entry: str) -> None:
    refused(Decontaminate, {"reviewed": [entry]}, f"{entry!r} is neither a question")
