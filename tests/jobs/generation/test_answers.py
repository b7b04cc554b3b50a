"""The teacher answering in batches: what it is shown, where an answer ends, and what a resumed job asks again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conf.stages.generate import GenerateConfig
from jobs.generation.answers import Answer, AnswerFile, answer_here
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer

PROMPTS = ["say a few words now", "s", "a few words to say a few words", "zz qq"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teacher")
    tokenizer.train(iter(["a few words to say"] * 9), 270, directory)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 270}
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 64, **sizes}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


class Model:
    """Stands in for a model: says the same ids after every prompt, and keeps what it was shown."""

    def __init__(self, directory: Path, said: str, ends: bool, room: int = 64) -> None:
        words = hf.load_tokenizer(directory)
        self.ids = words(said, add_special_tokens=False).input_ids + [words.eos_token_id] * ends
        self.config, self.device = SimpleNamespace(max_position_embeddings=room), "cpu"
        self.shown: list[tuple[list[list[int]], list[list[int]]]] = []
        self.settings: Any = None
        self.seeds: list[int] = []

    def generate(self, inputs: Any, attention_mask: Any, generation_config: Any, **_: Any) -> Any:
        import torch

        self.shown.append((inputs.tolist(), attention_mask.tolist()))
        self.settings = generation_config
        self.seeds.append(torch.initial_seed())
        rows = inputs.repeat_interleave(generation_config.num_return_sequences, 0)
        said = torch.tensor(self.ids + [generation_config.pad_token_id] * 2).repeat(len(rows), 1)
        return torch.cat([rows, said if self.settings_end(said) else said[:, :-2]], 1)

    def settings_end(self, said: Any) -> bool:
        """Rows that ended are padded."""
        return int(said[0, -3]) in self.settings.eos_token_id


def answers(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, model: Model, done: frozenset[int] = frozenset(), **settings: Any
) -> list[list[Answer]]:
    monkeypatch.setattr(hf, "load_model", lambda *_: model)
    base = {"prompts": "x", "batch": 2, "max_new_tokens": 8, "precision": "fp32"}
    config = GenerateConfig.model_validate(base | settings)
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    return list(answer_here(config, teacher, messages, set(done)))


def test_long_prompts_come_first_padded_on_the_left(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(teacher, "few words", ends=True)
    made = answers(teacher, monkeypatch, model, seed=3)
    assert [[answer.prompt for answer in batch] for batch in made] == [[2, 0], [3, 1]]
    for inputs, mask in model.shown:
        lengths = [sum(row) for row in mask]
        assert lengths[0] == len(inputs[0]) >= lengths[1], "the longest fills its row"
        assert all(row == [0] * (len(row) - length) + [1] * length for row, length in zip(mask, lengths, strict=True))
    assert model.seeds == [3 * 1_000_003, 3 * 1_000_003 + 2]
    assert not model.settings.do_sample and model.settings.max_new_tokens == 8


def test_an_answer_ends_at_the_first_end(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(teacher, "few words", ends=True)
    (first, _), _ = answers(teacher, monkeypatch, model)
    assert (first.text, first.finished, first.tokens, first.fault) == ("few words", True, len(model.ids), "")
    model = Model(teacher, "few words", ends=False)
    (first, _), _ = answers(teacher, monkeypatch, model)
    assert (first.text, first.finished, first.tokens) == ("few words", False, len(model.ids))


def test_a_stop_string_ends_an_answer(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(teacher, "few words to say", ends=False)
    (first, _), _ = answers(teacher, monkeypatch, model, stop=["say", "to"])
    assert (first.text, first.finished) == ("few words", True)
    (first, _), _ = answers(teacher, monkeypatch, model, stop=["few"])
    assert (first.text, first.finished) == ("", True), "also at its very start"


def test_samples_follow_their_prompt(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(teacher, "few", ends=True)
    made = answers(teacher, monkeypatch, model, samples=3, temperature=0.7, top_p=0.9)
    assert [(one.prompt, one.sample) for one in made[0]] == [(2, 0), (2, 1), (2, 2), (0, 0), (0, 1), (0, 2)]
    settings = model.settings
    assert (settings.do_sample, settings.temperature, settings.top_p, settings.top_k) == (True, 0.7, 0.9, 0)


def test_a_resumed_job_keeps_batches_and_seeds(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rest = Model(teacher, "few", ends=True), Model(teacher, "few", ends=True)
    answers(teacher, monkeypatch, whole)
    made = answers(teacher, monkeypatch, rest, done=frozenset({0, 2}))
    assert [[answer.prompt for answer in batch] for batch in made] == [[3, 1]]
    assert (rest.shown, rest.seeds) == (whole.shown[1:], whole.seeds[1:])
    assert len(answers(teacher, monkeypatch, Model(teacher, "few", ends=True), done=frozenset({0}))) == 2


def test_a_prompt_without_room_for_an_answer_is_a_fault(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Model(teacher, "few", ends=True)
    answers(teacher, monkeypatch, shown)
    longest = len(shown.shown[0][0][0])
    fits = answers(teacher, monkeypatch, Model(teacher, "few", ends=True, room=longest + 8))
    assert not any(answer.fault for batch in fits for answer in batch)
    model = Model(teacher, "few", ends=True, room=longest + 7)
    made = answers(teacher, monkeypatch, model, samples=2, temperature=1.0)
    assert [(one.prompt, one.sample, one.text) for one in made[0]] == [(2, 0, ""), (2, 1, "")]
    assert all("exceed the teacher's longest sequence" in one.fault for one in made[0])
    assert sorted(one.prompt for batch in made[1:] for one in batch) == [0, 0, 1, 1, 3, 3]
    again = answers(teacher, monkeypatch, Model(teacher, "few", ends=True, room=longest + 7), done=frozenset({2}))
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
