"""The answer stage, begun and continued: whole batches are kept, and only what is missing is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from jobs import answer
from jobs.benchmarks import answering
from jobs.benchmarks.files import Numbered, QuestionSet, write_questions
from jobs.benchmarks.question import Question, Response
from jobs.benchmarks.table import BENCHMARKS
from jobs.huggingface import model as hf
from tests.fixtures.answering import play_vllm
from tests.fixtures.jobs import refused, run_job
from tests.fixtures.scripted import Scripted, small_model

CONFIG = {"precision": "fp32", "batch": 2, "max_new_tokens": 4, "chat": "never"}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """A model and four questions."""
    for name in ("teacher/model", "questions", "made"):
        (tmp_path / name).mkdir(parents=True)
    small_model(tmp_path / "teacher" / "model")
    prompts = ["a few words to say", "say a few", "say", "s"]
    asked = QuestionSet(
        benchmark=BENCHMARKS["gsm8k"],
        shots=0,
        left_out={},
        questions=[Question(id=text, text=text, answer="") for text in prompts],
        prompts=prompts,
        seconds={},
    )
    write_questions(tmp_path / "questions", asked, {})
    return {"model": tmp_path / "teacher", "questions": tmp_path / "questions"}


def answered(output: Path, count: int, torn: bytes = b"") -> None:
    rows = [Numbered(question=number, tokens=5, response=Response(text="old")) for number in range(count)]
    (output / "responses.jsonl").write_bytes(b"".join(orjson.dumps(asdict(row)) + b"\n" for row in rows) + torn)


@dataclass
class Asked:
    """A benchmark of which no question is asked."""

    benchmark: Any
    questions: tuple[()] = ()


def facts(output: Path) -> Any:
    return json.loads((output / "answer.json").read_text())


def test_a_model_is_not_loaded_when_all_is_answered(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(hf, "load_model", refuse)
    answered(tmp_path / "made", 4)
    output = run_job("answer", CONFIG, inputs, tmp_path / "made")
    assert facts(output) == {"benchmark": "gsm8k", "chat": False, "max_new_tokens": 4, "samples": 1, "tokens": 20}
    assert "4 of 4 questions already answered" in capfd.readouterr().out


@pytest.mark.parametrize(("kind", "samples"), [("number", 3), ("choice", 1)])
def test_choices_have_no_samples(
    kind: str, samples: int, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their log probabilities are the same in each."""
    asked: list[int] = []
    monkeypatch.setattr(
        answer, "read_questions", lambda _: Asked(next(b for b in BENCHMARKS.values() if b.kind == kind))
    )
    made = SimpleNamespace(batches=[], chat=False, max_new_tokens=4)
    monkeypatch.setattr(answering, "plan", lambda _, __, config: asked.append(config.samples) or made)
    output = run_job("answer", CONFIG | {"samples": 3, "temperature": 1.0}, inputs, tmp_path / "made")
    assert asked == [samples] and facts(output)["samples"] == samples


@pytest.mark.parametrize(("there", "kept"), [(0, 0), (1, 0), (2, 2), (3, 2)])
def test_whole_batches_are_kept_and_the_rest_is_asked(
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    there: int,
    kept: int,
) -> None:
    model = Scripted(inputs["model"] / "model", "few", ends=True)
    monkeypatch.setattr(hf, "load_model", lambda *_: model)
    monkeypatch.setattr(answering, "Decoder", model.decoder)
    monkeypatch.setattr(answering, "WAVE", 1)
    answered(tmp_path / "made", there, torn=b'{"question": 3')
    output = run_job("answer", CONFIG, inputs, tmp_path / "made")
    rows = [json.loads(line) for line in (output / "responses.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == [0, 1, 2, 3]
    assert [row["response"]["text"] == "old" for row in rows] == [number < kept for number in range(4)]
    assert facts(output)["tokens"] == 5 * kept + len(model.ids) * (4 - kept)
    told = capfd.readouterr().out
    assert (f"{kept} of 4 questions already answered" in told) == bool(kept)


def test_an_engine_answers_and_is_told(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = hf.load_tokenizer(inputs["model"] / "model")
    said = [*words("few", add_special_tokens=False).input_ids, words.eos_token_id]
    play_vllm(monkeypatch, tmp_path, said)
    monkeypatch.setattr(answering, "HANDED", 1)
    answered(tmp_path / "made", 2)
    config = CONFIG | {"engine": {"name": "vllm", "version": "0.32.0"}}
    output = run_job("answer", config, inputs, tmp_path / "made")
    rows = [json.loads(line) for line in (output / "responses.jsonl").read_text().splitlines()]
    assert [row["response"]["text"] for row in rows] == ["old", "old", "few", "few"]
    by = facts(output)["answered_by"]
    assert (by["engine"], by["version"], by["kernels"]) == ("vLLM", "0.32.0", ["SomeKernel"])
    # All is answered: what answered is known from the attempt before.
    (output / "answer.json").unlink()
    play_vllm(monkeypatch, tmp_path, said, before="raise SystemExit(1)")
    run_job("answer", config, inputs, output)
    assert facts(output)["answered_by"] == by


def test_an_engine_that_fails_keeps_what_is_answered(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    play_vllm(monkeypatch, tmp_path, [1], before="raise RuntimeError('no such kernel')")
    answered(tmp_path / "made", 1)
    monkeypatch.setattr(answering, "HANDED", 1)
    sentence = refused("answer", CONFIG | {"engine": {"name": "vllm"}}, inputs, tmp_path / "made", capfd)
    assert "vLLM did not answer for" in sentence and "RuntimeError: no such kernel" in sentence
    assert not (tmp_path / "made" / "answer.json").exists()
