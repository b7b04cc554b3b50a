"""The scores of a benchmark, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.benchmarks.question import Response
from tests.jobs.test_benchmarks import ROWS, answers_of, judged, questions

TEXTS = ["#### 1", "#### 1", "#### 9", "#### 2", "nothing", "#### 0"]
"""Of three questions, two answers each: two right ones, one, none."""


def test_samples_count_once_in_the_interval(tmp_path: Path) -> None:
    """Whatever their order in the file. Wilson's interval of 1.5 of 3."""
    asked = questions("gsm8k", tmp_path, ROWS["gsm8k"][:3])
    stops = ["end", "length", "end", "end", "length", "end"]
    responses = [Response(text=text, stop=stop) for text, stop in zip(TEXTS, stops, strict=True)]
    answers = answers_of(asked, tmp_path / "answers", responses, samples=2)
    lines = (answers / "responses.jsonl").read_text().splitlines(keepends=True)
    (answers / "responses.jsonl").write_text("".join(reversed(lines)))
    scores, items = judged(asked, answers, tmp_path)
    assert (scores["score"], scores["n"], scores["samples"]) == (0.5, 3, 2)
    assert scores["ci95"] == pytest.approx([0.125333, 0.874667], abs=1e-5)
    assert scores["pass_at"] == pytest.approx({"1": 1.5 / 3, "2": 2 / 3})
    assert (scores["cut_by_length"], scores["no_answer"], scores["chance"]) == (2 / 6, 1 / 6, 0)
    assert [item["correct"] for item in items] == [True, True, False, True, False, False]
    assert items[3] == {
        **{"subject": "gsm8k", "index": 1, "id": items[2]["id"], "sample": 1, "correct": True, "extracted": "2"},
        **{"reason": "", "stop": "end", "tokens": 3, "response": "#### 2", "logprobs": []},
    }


def test_one_answer_a_question_has_an_exact_interval(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Wilson's of 2 of 3."""
    asked = questions("gsm8k", tmp_path, ROWS["gsm8k"][:3])
    answers = answers_of(asked, tmp_path / "answers", [Response(text=f"#### {n}") for n in (1, 2, 9)])
    scores, _ = judged(asked, answers, tmp_path)
    assert scores["ci95"] == pytest.approx([0.207661, 0.938507], abs=1e-5)
    assert scores["pass_at"] == pytest.approx({"1": 2 / 3})
    assert "gsm8k: 66.7% of 3 (20.8% to 93.9%)" in capfd.readouterr().out
    progress = [json.loads(line) for line in (tmp_path / "judged" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in progress] == [1, 2, 3]


def test_chance_is_the_mean_of_the_questions(tmp_path: Path) -> None:
    five = ROWS["arc_challenge"][1] | {"choices": {"text": list("vwxyz"), "label": list("ABCDE")}}
    asked = questions("arc_challenge", tmp_path, [ROWS["arc_challenge"][0], five])
    answers = answers_of(asked, tmp_path / "answers", [Response(logprobs=(-1.0,) * n) for n in (4, 5)])
    scores, items = judged(asked, answers, tmp_path)
    assert scores["chance"] == pytest.approx((1 / 4 + 1 / 5) / 2) and items[0]["logprobs"] == [-1.0] * 4
