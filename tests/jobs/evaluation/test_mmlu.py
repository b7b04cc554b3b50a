"""Scores of questions by hand, and the runs of inputs that share their beginning."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conf.mmlu_files import Subject
from conf.stages.evaluate import Mmlu
from jobs import evaluate
from jobs.evaluation import measure, mmlu, scoring
from jobs.evaluation import multiple_choice_lm as choice


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


COMMON = tuple(range(20))


def grouped(inputs: list[tuple[int, ...]], tail: int = 1) -> list[tuple[list[tuple[int, ...]], int]]:
    return list(choice._runs(inputs, tail))


def test_common_beginnings_make_a_run() -> None:
    inputs = [(*COMMON, 50 + number, *range(number)) for number in range(8)]
    alone = [(99, 1), (98,)]
    (run, shared), (rest, none) = grouped([*inputs, *alone])
    assert shared == 20 and sorted(run) == sorted(inputs)
    assert [len(tokens) for tokens in run] == sorted(map(len, inputs), reverse=True), "longest first"
    assert none == 0 and rest == [(99, 1), (98,)]


def test_few_inputs_are_not_worth_a_run() -> None:
    inputs = [(*COMMON, 50 + number) for number in range(7)]
    assert grouped(inputs) == [(inputs, 0)]
    assert grouped([*inputs, (*COMMON, 57)]) == [([*inputs, (*COMMON, 57)], 20)]
    assert grouped([]) == []


@pytest.mark.parametrize(("own", "runs"), [(20, 1), (21, 0)])
def test_a_run_saves_at_least_half_the_work(own: int, runs: int) -> None:
    """Of inputs that have 20 tokens in common."""
    inputs = [(*COMMON, *(50 + number for _ in range(own))) for number in range(8)]
    found = grouped(inputs)
    assert len([shared for _, shared in found if shared]) == runs


def test_the_scored_tail_is_never_shared() -> None:
    """The shortest is a beginning of the others."""
    inputs = [COMMON, *((*COMMON, 50 + number) for number in range(7))]
    ((run, shared),) = grouped(inputs, tail=3)
    assert len(run) == 8 and shared == 17


@pytest.mark.parametrize(
    ("one", "other", "limit", "expected"),
    [((1, 2, 3), (1, 2, 4), 9, 2), ((1, 2), (1, 2, 3), 9, 2), ((1, 2, 3), (1, 2, 3), 2, 2), ((1,), (2,), 9, 0)],
)
def test_common_prefixes_are_counted(one: tuple[int, ...], other: tuple[int, ...], limit: int, expected: int) -> None:
    assert choice._common(one, other, limit) == expected


def test_an_answer_is_the_sum_of_its_tokens() -> None:
    logprobs = torch.tensor([[9.0, 9.0, 9.0], [-1.0, -2.0, -3.0], [-0.5, -0.25, -4.0]])
    assert choice._score(logprobs, [0, 1]) == (-1.25, True)
    assert choice._score(logprobs, [1, 1]) == (-2.25, False)
    assert choice._score(logprobs, [0]) == (-0.5, False)


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_answers_are_those_of_whole_passes(batch: int) -> None:
    """Of several tokens, cut from the left, with and without a common beginning; each context is counted once."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, initializer_range=0.5, **sizes)).eval()
    lm = choice.LastTokenLM.__new__(choice.LastTokenLM)
    told: list[int] = []
    lm._model, lm._device, lm.softmax_dtype, lm._max_length = model, torch.device("cpu"), torch.float32, 24
    lm.batch_size_per_gpu, lm.progress = batch, told.append
    contexts = [[*COMMON, 30 + number] for number in range(8)] + [[5], [*range(40)]]
    requests: Any = [(("", ""), context, answer) for context in contexts for answer in ([1], [2], [3, 4])]
    found = lm._loglikelihood_tokens(requests)
    for (_, context, answer), (logprob, greedy) in zip(requests, found, strict=True):
        tokens = torch.tensor([[*context, *answer][-25:]])
        with torch.no_grad():
            rows = model(tokens[:, :-1]).logits[0].double().log_softmax(-1)[-len(answer) :]
        expected = sum(float(row[token]) for row, token in zip(rows, answer, strict=True))
        assert logprob == pytest.approx(expected, abs=1e-4)
        assert greedy == all(int(row.argmax()) == token for row, token in zip(rows, answer, strict=True))
    assert sum(told) == 10
    assert lm.truncated == 1


def test_speed_is_the_median_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs of 50, 3, 1 and 2 seconds, the last three."""
    seconds, now = iter([50.0, 3.0, 1.0, 2.0]), [0.0]

    def generate(tokens: torch.Tensor, attention_mask: torch.Tensor, generation_config: Any) -> torch.Tensor:
        now[0] += next(seconds)
        assert attention_mask.eq(1).all() and generation_config.min_new_tokens == generation_config.max_new_tokens == 4
        assert not generation_config.do_sample and generation_config.use_cache
        return torch.zeros(1, tokens.shape[1] + 4)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    model: Any = SimpleNamespace(device="cpu", generate=generate)
    found = scoring.time_generation(model, torch.arange(3).numpy(), 4)
    assert found == {"latency_seconds": 2.0, "tokens_per_second": 2.0}


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (4, 7), (3, 6), (9, 8)])
def test_questions_are_counted_up_to_the_limit(limit: int | None, expected: int) -> None:
    subjects = [Subject(name="a", dev=[], test=[{}] * 5), Subject(name="b", dev=[], test=[{}] * 3)]
    config: Any = SimpleNamespace(mmlu=SimpleNamespace(limit=limit))
    assert evaluate._num_questions(subjects, config) == expected
    assert evaluate._num_questions(subjects, SimpleNamespace(mmlu=None)) == 8  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "new", "words"),
    [
        ({}, 4, None),
        ({}, 5, r"evaluate.prompt_tokens 28 \+ new_tokens 5 is above the model's max_position_embeddings 32"),
        ({}, 0, None),
        ({"max_position_embeddings": None}, 99, None),
        ({"vocab_size": 9}, 0, "has 9 vocabulary rows and the teacher 8"),
    ],
)
def test_models_and_lengths_must_fit(
    ours: dict[str, Any], new: int, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.huggingface import model as hf

    theirs = {"vocab_size": 8, "max_position_embeddings": 32}
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    monkeypatch.setattr(hf, "check", lambda folder: theirs | (ours if folder == student else {}))
    monkeypatch.setattr(hf, "check_tokens", lambda *_: None)
    monkeypatch.setattr(hf, "check_length", lambda *_: None)
    config: Any = SimpleNamespace(seq_length=8, new_tokens=new, prompt_tokens=28, long_text=None)
    if words is None:
        measure.check(student, teacher, tmp_path, config)
    else:
        with pytest.raises(ValueError, match=words):
            measure.check(student, teacher, tmp_path, config)
