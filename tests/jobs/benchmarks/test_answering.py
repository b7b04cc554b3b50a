"""A model answering a benchmark in batches: what it is shown, where a response ends, and what a resumed job skips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.stages.answer import AnswerConfig
from jobs.benchmarks import answering
from jobs.benchmarks.files import Numbered, QuestionSet
from jobs.benchmarks.question import Choice, Question
from jobs.benchmarks.table import BENCHMARKS
from jobs.huggingface import model as hf
from tests.fixtures.scripted import Scripted, small_model

PROMPTS = ["say a few words", "s", "a few words to say a few words", "zz"]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<{{ m['content'] }}>"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return small_model(tmp_path)


def asked(name: str = "gsm8k", choices: tuple[Choice, ...] = ()) -> QuestionSet:
    questions = [Question(id=str(n), text=text, answer="", choices=choices) for n, text in enumerate(PROMPTS)]
    return QuestionSet(
        benchmark=BENCHMARKS[name], shots=0, left_out={}, questions=questions, prompts=PROMPTS, seconds={}
    )


def config(**settings: Any) -> AnswerConfig:
    base = {"batch": 2, "max_new_tokens": 8, "precision": "fp32", "chat": "never"}
    return AnswerConfig.model_validate(base | settings)


@pytest.fixture(autouse=True)
def waves_of_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "WAVE", 1)


def answers(
    directory: Path, model: Scripted, done: int = 0, name: str = "gsm8k", **settings: Any
) -> list[list[Numbered]]:
    made = answering.plan(directory, asked(name), config(**settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "Decoder", model.decoder)
        return list(answering.answer(model, directory, asked(name), made, config(**settings), done))  # type: ignore[arg-type]


def test_batches_are_the_longest_first(directory: Path) -> None:
    made = answering.plan(directory, asked(), config(batch=3))
    assert [(list(one.prompts), one.responses) for one in made.batches] == [([2, 0, 3], 3), ([1], 1)]
    assert (made.chat, made.max_new_tokens, made.stops) == (False, 8, BENCHMARKS["gsm8k"].stops)
    several = answering.plan(directory, asked(), config(samples=3, temperature=1.0))
    assert [one.responses for one in several.batches] == [6, 6]


def test_several_batches_of_texts_make_a_wave(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "WAVE", 3)
    assert [list(one.prompts) for one in answering.plan(directory, asked(), config(batch=1)).batches] == [
        [2, 0, 3],
        [1],
    ]
    choices = (Choice(continuation="z", text="z"),)
    scored = answering.plan(directory, asked("arc_easy", choices), config(batch=1))
    assert [len(one.prompts) for one in scored.batches] == [1] * 4, "where choices are scored, nothing ends early"


def test_prompts_and_answers_may_fill_the_model(directory: Path) -> None:
    longest = max(
        len(ids) for batch in answering.plan(directory, asked(), config()).batches for ids in batch.prompts.values()
    )
    answering.plan(directory, asked(), config(max_new_tokens=64 - longest))
    with pytest.raises(
        ValueError, match=rf"1 of 4 questions of gsm8k need up to 65 tokens with max_new_tokens {65 - longest}"
    ):
        answering.plan(directory, asked(), config(max_new_tokens=65 - longest))


def test_the_longest_choice_must_fit(directory: Path) -> None:
    words = hf.load_tokenizer(directory)
    prompt = max(len(words(text, add_special_tokens=False).input_ids) for text in PROMPTS)
    fits, over = (
        (Choice(continuation="z", text="z"), Choice(continuation="z" * length, text="z"))
        for length in (64 - prompt, 65 - prompt)
    )
    assert sum(one.responses for one in answering.plan(directory, asked("arc_easy", fits), config()).batches) == 4
    with pytest.raises(ValueError, match=r"1 of 4 questions of arc_easy need up to 65 tokens, but"):
        answering.plan(directory, asked("arc_easy", over), config())


def test_each_prompt_is_continued_as_the_settings_say(directory: Path) -> None:
    model = Scripted(directory, "few words", ends=True)
    made = answers(directory, model)
    assert [[one.question for one in batch] for batch in made] == [[2, 0], [3, 1]]
    words = hf.load_tokenizer(directory)
    shown = [(words.decode(request.prompt), request.number, request.sample) for run in model.runs for request in run]
    assert shown == [(PROMPTS[number], number, 0) for number in (2, 0, 3, 1)]
    sampling = model.sampling
    assert (model.width, sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (2, 8, 0, 1)
    assert sampling.ends == {words.eos_token_id}


@pytest.mark.parametrize(("ends", "stop"), [(True, "end"), (False, "length")])
def test_how_a_response_ends(directory: Path, ends: bool, stop: str) -> None:
    model = Scripted(directory, " few words", ends=ends)
    (first, _), _ = answers(directory, model)
    assert (first.response.text, first.response.stop, first.tokens) == (" few words", stop, len(model.ids))


def test_a_stop_string_ends_a_response(directory: Path) -> None:
    (first, _), _ = answers(directory, Scripted(directory, " few\n\nQuestion: words", ends=True), max_new_tokens=20)
    assert (first.response.text, first.response.stop) == (" few\n\n", "stop")
    (first, _), _ = answers(directory, Scripted(directory, "Question:", ends=False), max_new_tokens=20)
    assert (first.response.text, first.response.stop) == ("", "stop")


def test_samples_follow_their_question(directory: Path) -> None:
    model = Scripted(directory, "few", ends=True)
    made = answers(directory, model, samples=2, temperature=0.7)
    assert [(one.question, one.sample) for one in made[0]] == [(2, 0), (2, 1), (0, 0), (0, 1)]
    assert (model.width, model.sampling.temperature, model.sampling.top_p) == (4, 0.7, 1)


def test_a_resumed_job_skips_whole_batches(directory: Path) -> None:
    model = Scripted(directory, "few", ends=True)
    assert [[one.question for one in batch] for batch in answers(directory, model, done=1, seed=4)] == [[3, 1]]
    assert model.sampling.seed == 4
    assert answers(directory, model, done=2) == []


def test_chat_depends_on_the_setting_and_the_template(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"gsm8k.chat is always, but the tokenizer in .* has no chat template"):
        answering.plan(directory, asked(), config(chat="always"))
    assert answering.plan(directory, asked(), config(chat="auto")).chat is False
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE}))
    for chat, expected in (("never", False), ("auto", True), ("always", True)):
        made = answering.plan(directory, asked(), config(chat=chat))
        shown = made.tokenizer.decode(made.batches[0].prompts[2])
        assert (made.chat, "<a few" in shown) == (expected, expected), chat
        assert made.stops == BENCHMARKS["gsm8k"].stops
    small = directory / "config.json"
    small.write_text(json.dumps(json.loads(small.read_text()) | {"max_position_embeddings": 256}))
    code = answering.plan(directory, asked("humaneval"), config(chat="always", max_new_tokens=1, batch=1))
    assert code.stops == (), "the words for a chat end by themselves"


def test_scored_choices_take_no_new_tokens(directory: Path) -> None:
    choices = (Choice(continuation=" a", text="a"), Choice(continuation=" few", text="few"))
    assert answering.plan(directory, asked("arc_easy", choices), config(max_new_tokens=None)).max_new_tokens == 0
