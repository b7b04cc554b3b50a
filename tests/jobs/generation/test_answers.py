"""The teacher answering in batches: what it is shown, where an answer ends, and what a resumed job asks again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conf.stages.generate import GenerateConfig
from jobs.generation import decoder
from jobs.generation.answers import Answer, AnswerFile, answer_here
from jobs.huggingface import model as hf
from tests.fixtures.scripted import Scripted, small_model

PROMPTS = ["say a few words now", "s", "a few words to say a few words", "zz qq"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("teacher"))


def answers(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, model: Scripted, done: frozenset[int] = frozenset(), **settings: Any
) -> list[list[Answer]]:
    monkeypatch.setattr(hf, "load_model", lambda *_: model)
    monkeypatch.setattr(decoder, "Decoder", model.decoder)
    monkeypatch.setattr(decoder, "WAVE", 1)
    base = {"prompts": "x", "batch": 2, "max_new_tokens": 8, "precision": "fp32"}
    config = GenerateConfig.model_validate(base | settings)
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    return list(answer_here(config, teacher, messages, set(done)))


def test_long_prompts_come_first(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(teacher, "few words", ends=True)
    made = answers(teacher, monkeypatch, model, seed=3)
    assert [[answer.prompt for answer in batch] for batch in made] == [[2, 0], [3, 1]]
    shown = [
        (PROMPTS[one.number] in hf.load_tokenizer(teacher).decode(one.prompt)) for run in model.runs for one in run
    ]
    assert shown == [True] * 4
    sampling = model.sampling
    assert (model.width, sampling.max_new_tokens, sampling.temperature, sampling.seed) == (2, 8, 0, 3)
    assert hf.load_tokenizer(teacher).eos_token_id in sampling.ends


def test_several_batches_are_asked_together(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(teacher, "few", ends=True)
    answers(teacher, monkeypatch, model)
    monkeypatch.setattr(hf, "load_model", lambda *_: model)
    monkeypatch.setattr(decoder, "WAVE", 3)
    config = GenerateConfig.model_validate({"prompts": "x", "batch": 1, "max_new_tokens": 8, "precision": "fp32"})
    made = list(answer_here(config, teacher, [[{"role": "user", "content": prompt}] for prompt in PROMPTS], {0, 2, 3}))
    assert [[answer.prompt for answer in wave] for wave in made] == [[1]], "the wave that is done is not asked"


def test_an_answer_ends_at_the_first_end(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(teacher, "few words", ends=True)
    (first, _), _ = answers(teacher, monkeypatch, model)
    assert (first.text, first.finished, first.tokens, first.fault) == ("few words", True, len(model.ids), "")
    model = Scripted(teacher, "few words", ends=False)
    (first, _), _ = answers(teacher, monkeypatch, model)
    assert (first.text, first.finished, first.tokens) == ("few words", False, len(model.ids))


def test_a_stop_string_ends_an_answer(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(teacher, "few words to say", ends=False)
    (first, _), _ = answers(teacher, monkeypatch, model, stop=["say", "to"])
    assert (first.text, first.finished) == ("few words", True)
    (first, _), _ = answers(teacher, monkeypatch, model, stop=["few"])
    assert (first.text, first.finished) == ("", True), "also at its very start"


def test_samples_follow_their_prompt(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scripted(teacher, "few", ends=True)
    made = answers(teacher, monkeypatch, model, samples=3, temperature=0.7, top_p=0.9)
    assert [(one.prompt, one.sample) for one in made[0]] == [(2, 0), (2, 1), (2, 2), (0, 0), (0, 1), (0, 2)]
    assert (model.width, model.sampling.temperature, model.sampling.top_p) == (6, 0.7, 0.9)


def test_a_resumed_job_keeps_batches_and_seeds(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rest = Scripted(teacher, "few", ends=True), Scripted(teacher, "few", ends=True)
    answers(teacher, monkeypatch, whole)
    made = answers(teacher, monkeypatch, rest, done=frozenset({0, 2}))
    assert [[answer.prompt for answer in batch] for batch in made] == [[3, 1]]
    assert (rest.runs, rest.sampling.seed) == (whole.runs[1:], whole.sampling.seed)
    assert len(answers(teacher, monkeypatch, Scripted(teacher, "few", ends=True), done=frozenset({0}))) == 2


def test_a_prompt_without_room_for_an_answer_is_a_fault(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Scripted(teacher, "few", ends=True)
    answers(teacher, monkeypatch, shown)
    longest = len(shown.runs[0][0].prompt)
    fits = answers(teacher, monkeypatch, Scripted(teacher, "few", ends=True, room=longest + 8))
    assert not any(answer.fault for batch in fits for answer in batch)
    model = Scripted(teacher, "few", ends=True, room=longest + 7)
    made = answers(teacher, monkeypatch, model, samples=2, temperature=1.0)
    assert [(one.prompt, one.sample, one.text) for one in made[0]] == [(2, 0, ""), (2, 1, "")]
    assert all("exceed the teacher's longest sequence" in one.fault for one in made[0])
    assert sorted(one.prompt for batch in made[1:] for one in batch) == [0, 0, 1, 1, 3, 3]
    again = answers(teacher, monkeypatch, Scripted(teacher, "few", ends=True, room=longest + 7), done=frozenset({2}))
    assert not any(answer.fault for batch in again for answer in batch), "its fault is told once"


def test_a_prompt_is_done_with_all_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path)
    assert file.done(1) == set()
    file.add([Answer(prompt=0, sample=0, text="a"), Answer(prompt=1, sample=0), Answer(prompt=0, sample=1)])
    with path.open("ab") as stream:
        stream.write(b'{"prompt": 1, "sample": 1')  # as a kill leaves it
    read = AnswerFile(path)
    assert read.answers == file.answers and len(read.answers) == 3
    assert (read.done(1), read.done(2), read.done(3)) == ({0, 1}, {0}, set())
