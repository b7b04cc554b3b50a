"""What happens while a student learns: evaluations on the way, the best weights kept, an early end; also after a
kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conf.estimate.memory import LIBRARIES
from conf.load import load
from tests.fixtures.flow import RECIPE, told
from tests.fixtures.jobs import TRAINING, killed_after_a_checkpoint, last, ranks, run_job
from tests.fixtures.plans import estimate_of

EVALUATE = {
    "mmlu": {"path": "quiz", "style": "continuation"},
    "seq_length": 48,
    "sequences": 10,
    "precision": "fp32",
    "new_tokens": 0,
}
ARC = [
    {"id": str(n), "question": f"Where is {n}?", "choices": {"text": ["in Ada", "in Bob"], "label": ["A", "B"]}}
    | {"answerKey": "AB"[n % 2]}
    for n in range(5)
]
CONFIG = TRAINING | {"steps": 30, "lr": 1e-3, "evaluation": EVALUATE, "evaluate_every": 20}


def kept(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "kept.json").read_text())
    return content


def logged(output: Path, name: str) -> dict[int, float]:
    """A metric by step."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["values"][name] for line in lines if name in line["values"]}


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("distill.best_by=mmlu", ("best_by is mmlu", "set evaluate_every")),
        ("distill.evaluate_every=7", ("evaluate_every is 7", "the 6 steps", "choose at most 6")),
        ("distill.min_delta=0.1", ("min_delta is 0.1", "set patience")),
        ("distill.evaluate_limit=3", ("need evaluate_every, which is empty",)),
        ("distill.patience=0", ("distill.patience is 0", "at least 1")),
    ],
)
def test_useless_early_stopping_is_refused(override: str, parts: tuple[str, ...]) -> None:
    sentence = told(override)
    assert all(part in sentence for part in parts), sentence


def test_the_best_by_questions_needs_questions() -> None:
    sentence = told("distill.best_by=mmlu", "distill.evaluate_every=3", "evaluate.mmlu=null")
    assert "distill.best_by is mmlu but evaluate.mmlu is null" in sentence


def test_evaluations_in_training_ask_at_most_all_questions() -> None:
    recipe = load(str(RECIPE), ["distill.evaluate_every=3", "evaluate.mmlu.limit=9"])
    how = recipe.distill_of("depth")
    assert how and how.evaluation and how.evaluation.mmlu
    assert (how.evaluation.mmlu.limit, how.evaluation.sequences, how.evaluation.new_tokens) == (9, 8, 0)
    fewer = load(
        str(RECIPE), ["distill.evaluate_every=3", "evaluate.mmlu.limit=9", "distill.evaluate_limit=4"]
    ).distill_of("depth")
    assert fewer and fewer.evaluation and fewer.evaluation.mmlu and fewer.evaluation.mmlu.limit == 4
    plain = load(str(RECIPE)).distill_of("depth")
    assert plain and plain.evaluation is None


def test_plan_counts_models_loaded_by_evaluations() -> None:
    plain, watched = (load(str(RECIPE), changes) for changes in ([], ["distill.evaluate_every=3"]))
    more, less = (estimate_of(recipe, "distill-depth").memory for recipe in (watched, plain))
    alone = estimate_of(plain, "evaluate-depth").memory
    assert more and less and alone and more == less + alone - LIBRARIES


@pytest.mark.slow
def test_evaluation_in_training_equals_the_evaluate_stage(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path
) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    (tmp_path / "arc.jsonl").write_text("".join(json.dumps(question) + "\n" for question in ARC))
    read = {"benchmark": "arc_easy", "path": str(tmp_path / "arc.jsonl")}
    questions = run_job("questions", read, {"questions": tmp_path / "arc.jsonl"}, tmp_path / "questions")
    how = {"chat": "never", "batch": 4}
    config = CONFIG | {"evaluate_benchmarks": {"arc_easy": how}}
    taught = run_job("distill", config, inputs | {"questions-arc_easy": questions}, tmp_path / "taught")
    assert sorted(logged(taught, "mmlu")) == sorted(logged(taught, "test_kl")) == [0, 20, 30]
    given = {"model": taught, "questions": questions}
    answers = run_job("answer", how | {"precision": "fp32"}, given, tmp_path / "answers")
    judged = run_job("judge", {}, {"questions": questions, "answers": answers}, tmp_path / "judged")
    asked = json.loads((judged / "benchmark.json").read_text())
    assert [logged(taught, name)[30] for name in ("arc_easy", "arc_easy_n")] == [asked["score"], asked["n"]]
    assert [logged(taught, f"arc_easy_{end}")[30] for end in ("low", "high")] == pytest.approx(asked["ci95"])
    assert sorted(logged(taught, "arc_easy")) == [0, 20, 30]
    for step, model in ((0, student), (30, taught)):
        scored = run_job(
            "evaluate", EVALUATE, {"data": corpus, "teacher": teacher, "model": model}, tmp_path / f"scores-{step}"
        )
        scores = json.loads((scored / "scores.json").read_text())
        for metric, name in (
            ("mmlu", "mmlu"),
            ("test_loss", "val_loss"),
            ("test_kl", "kl_teacher"),
            ("test_agreement", "agreement_teacher"),
        ):
            assert logged(taught, metric)[step] == pytest.approx(scores[name], rel=1e-6), metric
        assert [logged(taught, f"mmlu_{end}")[step] for end in ("low", "high")] == pytest.approx(scores["mmlu_ci95"])
    silent = run_job("distill", CONFIG | {"evaluate_every": None, "evaluation": None}, inputs, tmp_path / "silent")
    assert same_weights(silent, taught), "looking changes nothing"
    assert kept(taught) | {"step": 30, "keep": "last", "stopped": None, "tokens": 30 * 8 * 64} == kept(taught)


@pytest.mark.slow
def test_exported_student_lacks_projections(corpus: Path, teacher: Path, importance: Path, tmp_path: Path) -> None:
    """Layers compared across widths are joined by a learned map, which checkpoints hold and Hugging Face models do
    not."""
    inputs = {"data": corpus, "teacher": teacher, "importance": importance}
    narrow = run_job("prune", {"hidden_size": 48}, inputs, tmp_path / "narrow")
    config = CONFIG | {
        "steps": 4,
        "evaluate_every": 2,
        "keep": "best",
        "intermediate": [{"student_layer": 2, "teacher_layer": 2}],
    }
    taught = run_job("distill", config, {"data": corpus, "teacher": teacher, "student": narrow}, tmp_path / "taught")
    assert sorted(logged(taught, "mmlu")) == [0, 2, 4]
    assert (
        load_file(taught / "model" / "model.safetensors").keys()
        == load_file(narrow / "model" / "model.safetensors").keys()
    )


@pytest.mark.drill
def test_resumed_run_keeps_best_weights_and_patience(
    corpus: Path, teacher: Path, student: Path, tmp_path: Path
) -> None:
    # A learning rate that is too high makes the student worse after its best step; patience then ends it before its
    # last.
    config = CONFIG | {"steps": 400, "lr": 2e-2, "warmup_steps": 60, "validate_every": 5, "checkpoint_every": 5}
    config |= {"evaluate_every": None, "evaluation": None, "keep": "best", "patience": 8, "min_delta": 1e-4}
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    whole = run_job("distill", config, inputs, tmp_path / "whole")
    about, losses = kept(whole), logged(whole, "val_kl")
    assert about["step"] == min(losses, key=lambda step: losses[step]) < about["trained"] < 400
    assert about["best"] == min(losses.values())
    assert "had not improved by more than 0.0001 in 8 checks" in about["stopped"]
    assert max(losses) == about["trained"]
    # Killed where the best weights are no longer the model's own.
    later = about["step"] + 10
    killed_after_a_checkpoint("distill", config, inputs, tmp_path / "killed", lambda state: state["step"] >= later)
    assert logged(tmp_path / "killed", "val_kl").keys() < losses.keys()
    run_job("distill", config, inputs, tmp_path / "killed")
    assert kept(tmp_path / "killed") == about
    assert logged(tmp_path / "killed", "val_kl") == losses
    assert same_weights(tmp_path / "killed", whole)
    # What was kept is the student of that step: before a first step more it is as far from the teacher as it was then.
    more = run_job(
        "distill",
        CONFIG | {"steps": 3, "evaluate_every": None, "evaluation": None},
        inputs | {"student": whole},
        tmp_path / "more",
    )
    assert logged(more, "val_kl")[0] == pytest.approx(about["best"], rel=1e-5)


@pytest.mark.slow
def test_two_ranks_evaluate_and_keep_as_one_does(corpus: Path, teacher: Path, student: Path, tmp_path: Path) -> None:
    inputs = {"data": corpus, "teacher": teacher, "student": student}
    config = CONFIG | {
        "steps": 6,
        "validate_every": 2,
        "checkpoint_every": 3,
        "evaluate_every": 3,
        "keep": "best",
        "best_by": "mmlu",
    }
    alone = run_job("distill", config, inputs, tmp_path / "alone")
    paired = ranks("distill", config | {"parallel": {"processes": 2, "tensor": 2}}, inputs, tmp_path / "paired", 2)
    assert last(paired, "test_loss") == pytest.approx(last(alone, "test_loss"), rel=1e-3)
    assert sorted(logged(paired, "mmlu")) == [0, 3, 6]
    best = max(logged(paired, "mmlu").values())
    assert kept(paired)["step"] == min(step for step, score in logged(paired, "mmlu").items() if score == best)
