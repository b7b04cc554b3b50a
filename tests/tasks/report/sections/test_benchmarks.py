"""The section on benchmarks: scores, how answers ended, differences from the teacher and the model before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.analysis.statistics import newcombe
from tasks.report.model import ReportModel
from tasks.report.sections.benchmarks import read_benchmarks, section

SCORE = {
    "n": 20,
    "ci95": [0.3, 0.7],
    "chance": 0.25,
    "cut_by_length": 0.0,
    "no_answer": 0.05,
    "shots": 5,
    "chat": False,
    "samples": 1,
    "pass_at": {"1": 0.5},
    "others": {},
    "left_out": 0,
}


def judged(root: Path, model: str, right: int, student: str | None, **more: Any) -> ReportModel:
    """A model whose first `right` answers of 20 are right."""
    folder = root / model
    folder.mkdir()
    facts = SCORE | {"score": right / 20} | {key: value for key, value in more.items() if key != "format"}
    (folder / "benchmark.json").write_text(json.dumps(facts | {"benchmark": "gsm8k"}))
    items = [{"id": f"q{n}", "sample": 0, "correct": n < right} for n in range(20)]
    items += [{"id": "q0", "sample": 1, "correct": False}]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return ReportModel(
        model=model,
        stage="x",
        student=student,
        format=more.get("format"),
        path="p",
        scores="s",
        training=None,
        benchmarks={"gsm8k": str(folder)},
    )


def test_differences_are_paired_with_teacher_and_model_before(tmp_path: Path) -> None:
    models = [
        judged(tmp_path, "teacher", 16, None),
        judged(tmp_path, "small-pruned", 4, "small"),
        judged(tmp_path, "small", 12, "small"),
        judged(tmp_path, "small-fp8", 11, "small", format="fp8"),
        judged(tmp_path, "small-nvfp4", 9, "small", format="nvfp4"),
    ]
    rows = read_benchmarks(models)
    assert [row.against_teacher and row.against_teacher.model for row in rows] == [None] + ["teacher"] * 4
    before = [row.against_before and row.against_before.model for row in rows]
    assert before == [None, None, "small-pruned", "small", "small"]
    difference = rows[2].against_teacher
    assert difference is not None
    assert (difference.difference, *difference.ci95) == pytest.approx(newcombe((12, 0, 4, 4)))


def test_the_section_says_what_to_know_before_comparing(tmp_path: Path) -> None:
    shared = {"left_out": 3, "samples": 4, "pass_at": {"1": 0.5, "4": 0.75}}
    models = [
        judged(tmp_path, "teacher", 16, None, **shared),
        judged(tmp_path, "small", 6, "small", cut_by_length=0.4, ci95=[0.15, 0.5], chat=True, **shared),
    ]
    made = section(read_benchmarks(models))
    assert made is not None
    assert made.sentences == (
        "Questions of gsm8k left out, since their own reference solutions fail: 3.",
        "Not above chance on gsm8k: small.",
        "More than 10% of the answers to gsm8k were cut by max_new_tokens: small; raise"
        " evaluate.benchmarks.gsm8k.max_new_tokens before comparing scores.",
        "With 4 answers to each question of gsm8k: teacher pass@1 50.0%, pass@4 75.0%; small pass@1 50.0%, pass@4"
        " 75.0%.",
    )
    assert made.rows[1][:6] == ("gsm8k, 5-shot, chat", "small", "30.0%", "15.0% to 50.0%", "20", "25.0%")
    assert made.rows[1][6].startswith("-50.0 points (") and made.rows[1][7:] == ("-", "40.0%", "5.0%")


def test_a_run_without_benchmarks_has_no_section() -> None:
    assert section(()) is None


@pytest.mark.parametrize("by", [None, {"engine": "vLLM", "version": "0.32.0"}])
def test_two_ways_to_answer_are_told(by: Any, tmp_path: Path) -> None:
    models = [judged(tmp_path, "teacher", 16, None), judged(tmp_path, "small", 16, "small", answered_by=by)]
    made = section(read_benchmarks(models))
    assert made is not None
    assert any("was answered by" in sentence for sentence in made.sentences) == bool(by)
