"""The three stages of a benchmark on a tiny model: its questions, a model's answers, the judgement."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from jobs.benchmarks.files import Numbered, read_questions
from jobs.benchmarks.judging import reference
from jobs.benchmarks.question import Response
from jobs.judge import pass_at
from tests.fixtures.jobs import refused, run_job

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [{"question": f"{n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(10)],
    "arc_challenge": [
        {
            "id": f"M_{n}",
            "question": f"Who lives in town {n}?",
            "choices": {"text": ["Ann", "nobody at all", "a tall man", "Eve"], "label": list("ABCD")},
            "answerKey": "ABCD"[n % 4],
        }
        for n in range(10)
    ],
    "winogrande": [
        {
            "sentence": f"Ann saw Eve {n} times as _ was there.",
            "option1": "Ann",
            "option2": "Eve",
            "answer": str(1 + n % 2),
        }
        for n in range(10)
    ],
    "humaneval": [
        {
            "task_id": f"T/{n}",
            "prompt": "def f(a):\n",
            "entry_point": "f",
            "canonical_solution": f"    return a + {n}\n",
            "test": f"def check(f):\n    assert f(1) == {n + 1}\n",
        }
        for n in range(4)
    ],
}
ROWS["humaneval"] = [row | {"prompt": f"# {n}\ndef f(a):\n"} for n, row in enumerate(ROWS["humaneval"])]
ANSWER = {"precision": "fp32", "batch": 4, "max_new_tokens": 12}


def questions(name: str, folder: Path, rows: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """The questions stage on a file of `rows`."""
    path = folder / f"{name}-{'validation' if name == 'winogrande' else 'test'}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS[name]))
    config = {"benchmark": name, "path": str(path), "shots": 0} | more
    return run_job("questions", config, {"questions": path}, folder / f"questions-{name}")


def judged(asked: Path, answers: Path, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    output = run_job("judge", {}, {"questions": asked, "answers": answers}, folder / "judged")
    items = [json.loads(line) for line in (output / "items.jsonl").read_text().splitlines()]
    return json.loads((output / "benchmark.json").read_text()), items


def answers_of(asked: Path, folder: Path, responses: list[Response], samples: int = 1) -> Path:
    """An answer artifact with these responses, as a model would leave it."""
    folder.mkdir()
    rows = [
        asdict(Numbered(question=number // samples, sample=number % samples, tokens=3, response=response))
        for number, response in enumerate(responses)
    ]
    (folder / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = {"benchmark": "", "chat": False, "max_new_tokens": 12, "samples": samples, "tokens": 3 * len(rows)}
    (folder / "answer.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_model_that_answers_with_the_references_scores_all(name: str, tmp_path: Path) -> None:
    asked = questions(name, tmp_path)
    read = read_questions(asked)
    right = [reference(read.benchmark, question) for question in read.questions]
    scores, items = judged(asked, answers_of(asked, tmp_path / "answers", right), tmp_path)
    n = len(ROWS[name])
    assert (scores["score"], scores["n"], scores["left_out"], scores["no_answer"]) == (1.0, n, 0, 0.0)
    assert scores["ci95"][0] < 1 and scores["ci95"][1] == 1.0
    assert scores["chance"] == {"gsm8k": 0, "humaneval": 0, "arc_challenge": 0.25, "winogrande": 0.5}[name]
    assert [item["index"] for item in items] == list(range(n)) and all(item["correct"] for item in items)


def test_who_answered_is_kept(tmp_path: Path) -> None:
    asked = questions("gsm8k", tmp_path, ROWS["gsm8k"][:1])
    answers = answers_of(asked, tmp_path / "answers", [Response(text="#### 1")])
    assert "answered_by" not in judged(asked, answers, tmp_path)[0]
    facts = json.loads((answers / "answer.json").read_text()) | {"answered_by": {"engine": "vLLM", "version": "0.32.0"}}
    (answers / "answer.json").write_text(json.dumps(facts))
    assert judged(asked, answers, tmp_path)[0]["answered_by"] == {"engine": "vLLM", "version": "0.32.0"}


def test_wrong_and_empty_answers_score_nothing(tmp_path: Path) -> None:
    asked = questions("humaneval", tmp_path)
    responses = [
        Response(text="    return a - 1\n", stop="end"),
        Response(text="", stop="length"),
        Response(text="    while True: pass\n", stop="stop"),
        Response(text="    import os; os._exit(0)\n", stop="end"),
    ]
    scores, items = judged(asked, answers_of(asked, tmp_path / "answers", responses), tmp_path)
    assert (scores["score"], scores["no_answer"], scores["cut_by_length"]) == (0.0, 0.25, 0.25)
    assert [item["reason"] for item in items] == [
        "AssertionError",
        "no code",
        "more than 3 processor seconds",
        "ended before its tests did",
    ]


def test_samples_are_scored_by_question(tmp_path: Path) -> None:
    asked = questions("gsm8k", tmp_path, ROWS["gsm8k"][:2])
    texts = ["#### 1", "#### 2", "#### 9", "#### 1", "#### 9", "I", "#### 9", "#### 9"]
    answers = answers_of(asked, tmp_path / "answers", [Response(text=text) for text in texts], samples=4)
    scores, items = judged(asked, answers, tmp_path)
    assert scores["score"] == 2 / 8 and scores["n"] == 2
    assert scores["pass_at"] == {"1": 0.25, "4": 0.5}
    assert scores["no_answer"] == 1 / 8
    assert [(item["index"], item["sample"]) for item in items] == [(n, s) for n in range(2) for s in range(4)]


def test_pass_at_k_counts_draws_without_replacement() -> None:
    assert pass_at(1, 4, 1) == 0.25
    assert pass_at(2, 4, 1) == 0.5
    assert pass_at(2, 4, 3) == 1.0
    assert pass_at(4, 4, 0) == 0.0


def test_both_filters_of_lm_eval_are_kept(tmp_path: Path) -> None:
    asked = questions("gsm8k", tmp_path, [{"question": "q", "answer": "#### 18"}])
    answers = answers_of(asked, tmp_path / "answers", [Response(text="The answer is \\boxed{18}.")])
    scores, _ = judged(asked, answers, tmp_path)
    assert scores["score"] == 1.0 and scores["others"] == {"flexible": True, "strict": False}


def test_a_reference_that_fails_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong = ROWS["humaneval"][1] | {"canonical_solution": "    return 0\n"}
    asked = questions("humaneval", tmp_path, [ROWS["humaneval"][0], wrong], limit=2)
    facts = json.loads((asked / "questions.json").read_text())
    assert facts["left_out"] == {"T/1": "AssertionError"} and facts["questions"] == 1
    assert "1 left out, as their own reference solution fails (T/1: AssertionError)" in capfd.readouterr().out
    assert list(facts["seconds"]) == ["T/0"] and facts["seconds"]["T/0"] >= 3


def test_a_limit_keeps_the_prompts_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for split, rows in (("train", ROWS["gsm8k"][5:]), ("test", ROWS["gsm8k"][:5])):
        (tmp_path / "a" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"benchmark": "gsm8k", "path": str(tmp_path / "a"), "shots": 2}
    made = {
        limit: read_questions(run_job("questions", config | {"limit": limit}, {}, tmp_path / f"made{limit}")).prompts
        for limit in (3, 5)
    }
    assert made[3] == made[5][:3] and len(made[5]) == 5
    assert all(prompt.count("####") == 2 for prompt in made[5])


def test_a_file_of_another_shape_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"prompt": "x"}\n')
    sentence = refused("questions", {"benchmark": "gsm8k"}, {"questions": path}, tmp_path / "made", capfd)
    assert f"{path}:1 is not a question of gsm8k (no 'answer'); it needs question and answer" in sentence


def test_answers_to_other_questions_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = questions("gsm8k", tmp_path)
    answers = answers_of(asked, tmp_path / "answers", [Response(text="#### 1")] * 9)
    inputs = {"questions": asked, "answers": answers}
    sentence = refused("judge", {}, inputs, tmp_path / "judged", capfd)
    assert f"{answers} does not answer the questions in {asked}; answer them again" in sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sampling"),
    [("gsm8k", {}), ("gsm8k", {"temperature": 0.8, "samples": 2}), ("arc_challenge", {}), ("winogrande", {})],
)
def test_a_model_answers_alike_at_once_and_after_a_kill(
    teacher: Path, tmp_path: Path, name: str, sampling: dict[str, Any]
) -> None:
    asked = questions(name, tmp_path)
    inputs, config = {"model": teacher, "questions": asked}, ANSWER | sampling
    whole = run_job("answer", config, inputs, tmp_path / "whole")
    content = (whole / "responses.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 10 * sampling.get("samples", 1)
    (tmp_path / "cut").mkdir()
    kept = 5 * sampling.get("samples", 1)  # in the middle of the second batch, and of a line
    (tmp_path / "cut" / "responses.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:9])
    cut = run_job("answer", config, inputs, tmp_path / "cut")
    assert (cut / "responses.jsonl").read_bytes() == content
    first, _ = judged(asked, whole, tmp_path / "one")
    again, _ = judged(asked, cut, tmp_path / "two")
    assert first == again and 0 <= first["score"] <= 1


@pytest.mark.slow
def test_greedy_answers_are_those_of_transformers_alone(teacher: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = questions("gsm8k", tmp_path)
    output = run_job("answer", ANSWER, {"model": teacher, "questions": asked}, tmp_path / "made")
    words = AutoTokenizer.from_pretrained(teacher / "model")
    model = AutoModelForCausalLM.from_pretrained(teacher / "model", dtype=torch.float32)
    for line in (output / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        prompt = words(read_questions(asked).prompts[row["question"]], return_tensors="pt").input_ids
        alone = model.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
        whole = words.decode(alone, skip_special_tokens=True)
        said = whole[len(words.decode(prompt[0], skip_special_tokens=True)) :].split("Question:")[0]
        assert row["response"]["text"] == said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arc_challenge", "winogrande"])
def test_choices_have_the_log_probabilities_of_lm_eval(teacher: Path, tmp_path: Path, name: str) -> None:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = questions(name, tmp_path)
    output = run_job("answer", ANSWER, {"model": teacher, "questions": asked}, tmp_path / "made")
    model = AutoModelForCausalLM.from_pretrained(teacher / "model", dtype=torch.float32)
    theirs = HFLM(model, tokenizer=AutoTokenizer.from_pretrained(teacher / "model"), batch_size=1)
    read = read_questions(asked)
    for line in (output / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        question, prompt = read.questions[row["question"]], read.prompts[row["question"]]
        requests = [
            Instance("loglikelihood", {}, (prompt + choice.context, choice.continuation), number)
            for number, choice in enumerate(question.choices)
        ]
        expected = [logprob for logprob, _ in theirs.loglikelihood(requests, disable_tqdm=True)]
        assert row["response"]["logprobs"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_prompts_that_cannot_fit_are_refused_before_the_model_is_loaded(
    teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = {"question": "why " * 200, "answer": "#### 1"}
    asked = questions("gsm8k", tmp_path, [*ROWS["gsm8k"], long])
    bare = tmp_path / "bare" / "model"
    shutil.copytree(teacher / "model", bare)
    inputs = {"model": bare.parent, "questions": asked}
    sentence = refused("answer", ANSWER, inputs, tmp_path / "made", capfd)
    assert "1 of 11 questions of gsm8k need up to " in sentence
    assert "tokens with max_new_tokens 12, but the model's max_position_embeddings is 128; lower shots or" in sentence


@pytest.mark.slow
def test_chat_needs_a_template_where_it_is_always(
    teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, templated = tmp_path / "plain", tmp_path / "templated"
    for folder in (plain, templated):
        shutil.copytree(teacher / "model", folder / "model")
        (folder / "model" / "chat_template.jinja").unlink(missing_ok=True)
        file = folder / "model" / "tokenizer_config.json"
        settings = json.loads(file.read_text())
        settings.pop("chat_template", None)
        file.write_text(json.dumps(settings))
    from conf.chat_template import PLAIN

    (templated / "model" / "chat_template.jinja").write_text(PLAIN)
    asked = questions("gsm8k", tmp_path)
    always = ANSWER | {"chat": "always"}
    sentence = refused("answer", always, {"model": plain, "questions": asked}, tmp_path / "no", capfd)
    assert "gsm8k.chat is always, but the tokenizer in" in sentence and "has no chat template; set it to" in sentence
    used = []
    for folder, chat in ((plain, "auto"), (templated, "auto"), (templated, "always"), (templated, "never")):
        inputs, output = {"model": folder, "questions": asked}, tmp_path / f"{folder.name}-{chat}"
        used.append(
            json.loads((run_job("answer", ANSWER | {"chat": chat}, inputs, output) / "answer.json").read_text())
        )
    assert [facts["chat"] for facts in used] == [False, True, True, False]
