"""An engine answers a benchmark: it is asked imbik's own tokens, and what it says is read as a model's answers here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conf.engines.asked import AnsweredBy
from conf.mmlu_files import Subject
from conf.stages.answer import AnswerConfig
from conf.stages.evaluate import EvaluateConfig
from jobs.benchmarks import answering, engines
from jobs.benchmarks.files import Numbered, QuestionSet
from jobs.benchmarks.question import Choice, Question
from jobs.benchmarks.table import BENCHMARKS
from jobs.huggingface import model as hf
from tests.fixtures.answering import Served, play_vllm, serving
from tests.fixtures.scripted import small_model

PROMPTS = ["say a few words", "s", "a few words to say a few words", "zz"]
CHOICES = (Choice(continuation=" a few", text="a few"), Choice(context=" say", continuation=" words", text="words"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return small_model(tmp_path / "model")


def asked(name: str = "gsm8k", choices: tuple[Choice, ...] = ()) -> QuestionSet:
    questions = [Question(id=str(n), text=text, answer="", choices=choices) for n, text in enumerate(PROMPTS)]
    return QuestionSet(
        benchmark=BENCHMARKS[name], shots=0, left_out={}, questions=questions, prompts=list(PROMPTS), seconds={}
    )


def config(url: str | None = None, **settings: Any) -> AnswerConfig:
    by = {"name": "endpoint", "endpoint": url, "model": "tiny", "version": "vLLM 0.32.0"} if url else {"name": "vllm"}
    return AnswerConfig.model_validate({"batch": 2, "max_new_tokens": 4, "precision": "fp32", "engine": by} | settings)


def answers(directory: Path, what: QuestionSet, how: AnswerConfig, done: int = 0) -> list[list[Numbered]]:
    made = answering.plan(directory, what, how)
    return list(engines.answer(directory, what, made, how, directory.parent, done))


def heard(directory: Path) -> list[Any]:
    return [
        json.loads(line) for line in (directory.parent / "vllm.log").read_text().splitlines() if line.startswith("{")
    ]


def test_an_engine_is_handed_many_batches_at_once(directory: Path) -> None:
    made = answering.plan(directory, asked(), config(batch=1))
    assert [list(batch.prompts) for batch in made.batches] == [[2, 0, 3, 1]]
    here = answering.plan(directory, asked(), config(batch=1, engine=None))
    scored, alone = (
        answering.plan(directory, asked("arc_easy", CHOICES), config(batch=1, engine=by)).batches
        for by in ({"name": "vllm"}, None)
    )
    assert ([len(one.prompts) for one in scored], [len(one.prompts) for one in alone]) == ([4], [1, 1, 1, 1])
    assert made.longest == here.longest == max(map(len, made.batches[0].prompts.values())) + 4
    many = asked()
    many.questions.extend(many.questions[:1] * 29)
    many.prompts.extend(many.prompts[:1] * 29)
    assert [len(one.prompts) for one in answering.plan(directory, many, config(batch=2)).batches] == [32, 1]


def test_engines_generate_a_token_after_what_they_score(directory: Path) -> None:
    what = asked("arc_easy", CHOICES)
    there, here = (answering.plan(directory, what, config(engine=by)).longest for by in ({"name": "vllm"}, None))
    assert there == here + 1


def test_ids_are_read_as_a_model_s_answer_here(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = hf.load_tokenizer(directory)
    play_vllm(monkeypatch, directory.parent, [*words(" few", add_special_tokens=False).input_ids, words.eos_token_id])
    (batch,) = answers(directory, asked(), config(samples=2, temperature=0.5, seed=3))
    assert [(one.question, one.sample) for one in batch] == [(n, sample) for n in (2, 0, 3, 1) for sample in (0, 1)]
    assert {(one.response.text, one.response.stop) for one in batch} == {(" few", "end")}
    made = answering.plan(directory, asked(), config())
    (request,) = heard(directory)
    assert request["prompts"] == [made.batches[0].prompts[number] for number in (2, 2, 0, 0, 3, 3, 1, 1)]
    assert request["seeds"] == [3_000_009 + 2 * number + sample for number in (2, 0, 3, 1) for sample in (0, 1)]
    assert (request["max_tokens"], request["temperature"]) == (4, 0.5)
    assert (request["stops"], request["ends"]) == (list(BENCHMARKS["gsm8k"].stops), [words.eos_token_id])


def test_what_is_answered_is_not_asked_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play_vllm(monkeypatch, directory.parent, [1])
    monkeypatch.setattr(answering, "HANDED", 1)
    assert [[one.question for one in batch] for batch in answers(directory, asked(), config(), done=1)] == [[3, 1]]


def test_the_engine_is_told_how_long_answers_may_be(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    class Opened(engines.Vllm):
        def __init__(self, *arguments: Any) -> None:
            opened.append(arguments)
            super().__init__(*arguments)

    play_vllm(monkeypatch, directory.parent, [1])
    monkeypatch.setattr(engines, "Vllm", Opened)
    for what in (asked(), asked("arc_easy", CHOICES)):
        answers(directory, what, config())
        (_, _, loading, _) = opened[-1]
        assert loading.length == answering.plan(directory, what, config()).longest
        assert (loading.precision, loading.stops) == ("fp32", what.benchmark.name == "gsm8k")


def test_choices_are_encoded_as_for_the_model_here(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.instance import Instance

    from jobs.evaluation.multiple_choice_lm import EngineLM, LastTokenLM

    play_vllm(monkeypatch, directory.parent, [])
    what = asked("arc_easy", CHOICES)
    (batch,) = answers(directory, what, config())
    (request,) = heard(directory)
    seen: list[Any] = []
    monkeypatch.setattr(LastTokenLM, "_loglikelihood_tokens", lambda self, requests, **_: seen.extend(requests) or [])
    here = LastTokenLM.__new__(LastTokenLM)
    here.__dict__.update(EngineLM(hf.load_tokenizer(directory), lambda inputs, last: []).__dict__)
    texts = [(what.prompts[n] + one.context, one.continuation) for n in (2, 0, 3, 1) for one in CHOICES]
    here.loglikelihood(
        [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in texts], disable_tqdm=True
    )
    assert [len(last) for _, _, last in seen] == request["last"]
    assert [context + last for _, context, last in seen] == request["prompts"]
    expected = [-sum(last) / 100 for _, _, last in seen]
    assert [value for one in batch for value in one.response.logprobs] == pytest.approx(expected)
    assert [one.question for one in batch] == [2, 0, 3, 1]


def test_an_empty_prompt_is_scored_after_the_first_token(directory: Path) -> None:
    from lm_eval.api.instance import Instance

    from jobs.evaluation.multiple_choice_lm import EngineLM

    words, seen = hf.load_tokenizer(directory), list[tuple[list[list[int]], list[int]]]()
    lm = EngineLM(words, lambda inputs, last: seen.append((list(inputs), list(last))) or [-1.0])  # type: ignore[func-returns-value]
    empty = Instance(request_type="loglikelihood", doc={}, arguments=("", " few"), idx=0)
    assert lm.loglikelihood([empty], disable_tqdm=True) == [(-1.0, False)]
    few = words(" few", add_special_tokens=False).input_ids
    assert seen == [([[lm.prefix_token_id, *few]], [len(few)])]


def test_longer_inputs_are_cut_from_the_left(directory: Path) -> None:
    from lm_eval.api.instance import Instance

    from jobs.evaluation.multiple_choice_lm import EngineLM

    words, seen = hf.load_tokenizer(directory), list[list[int]]()

    def score(inputs: Any, last: Any) -> list[float]:
        seen.extend(inputs)
        return [0.0] * len(inputs)

    pair = ("a few words to say", " few")
    whole = words("".join(pair), add_special_tokens=False).input_ids
    asked_for = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0)] * 2
    for longest, cut in ((len(whole), 0), (len(whole) - 1, 1)):
        lm = EngineLM(words, score, longest)
        lm.loglikelihood(asked_for, disable_tqdm=True)
        assert (seen[-2:], lm.truncated) == ([whole[-longest:]] * 2, cut)


@pytest.fixture
def subjects() -> list[Subject]:
    """Five questions of one subject."""
    rows = [{"question": f"say {n}", "choices": ["a", "few", "words", "to"], "answer": n % 4} for n in range(5)]
    return [Subject(name="talking", dev=rows[:2], test=rows)]


@pytest.mark.parametrize("style", ["letters", "continuation"])
def test_mmlu_is_asked_as_of_the_model_here(
    directory: Path, subjects: list[Subject], monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    from jobs.evaluation import mmlu
    from jobs.evaluation.multiple_choice_lm import EngineLM

    play_vllm(monkeypatch, directory.parent, [])
    monkeypatch.setattr(engines, "AT_ONCE", 8)
    small = directory / "config.json"
    small.write_text(json.dumps(json.loads(small.read_text()) | {"max_position_embeddings": 512}))
    evaluate = EvaluateConfig.model_validate({"mmlu": {"style": style, "shots": 1}, "precision": "fp32"})
    by, counted = AnsweredBy(name="vllm", version="0.32.0"), list[int]()
    scores, items = engines.multiple_choice(by, directory, subjects, evaluate, directory.parent, counted.append)

    def score(inputs: Any, last: Any) -> list[float]:
        return [-sum(tokens[-count:]) / 100 for tokens, count in zip(inputs, last, strict=True)]

    assert evaluate.mmlu
    expected, same = mmlu.ask_lm(EngineLM(hf.load_tokenizer(directory), score), subjects, evaluate.mmlu)
    assert scores.pop("mmlu_answered_by")["engine"] == "vLLM"
    assert scores == expected and scores["mmlu_n"] == 5 and counted == [2, 2, 1]
    for ours, theirs in zip(items, same, strict=True):
        assert ours.pop("logprobs") == pytest.approx(theirs.pop("logprobs"))
        assert ours == theirs


def test_mmlu_is_asked_of_a_server(directory: Path, subjects: list[Subject]) -> None:
    small = directory / "config.json"
    small.write_text(json.dumps(json.loads(small.read_text()) | {"max_position_embeddings": 512}))
    evaluate = EvaluateConfig.model_validate({"mmlu": {}})
    with serving(Served(longest=None)) as url:
        by = AnsweredBy(name="endpoint", endpoint=url, model="tiny", version="vLLM 0.32.0")
        scores, items = engines.multiple_choice(by, directory, subjects, evaluate, directory.parent, lambda count: None)
    assert (scores["mmlu_n"], len(items)) == (5, 5)
    assert scores["mmlu_answered_by"] == {"engine": "vLLM 0.32.0", "model": "tiny", "kernels": []}


def test_a_server_s_texts_are_kept(directory: Path) -> None:
    served = Served(says=lambda prompt: f" {len(prompt)} Question: more", tokens=4)
    with serving(served) as url:
        (batch,) = answers(directory, asked(), config(url))
        made = answering.plan(directory, asked(), config(url))
    lengths = {number: len(ids) for number, ids in made.batches[0].prompts.items()}
    assert [(one.question, one.response.text, one.response.stop, one.tokens) for one in batch] == [
        (number, f" {lengths[number]} ", "stop", 4) for number in (2, 0, 3, 1)
    ]
    assert engines.facts(directory.parent) == {"engine": "vLLM 0.32.0", "model": "tiny", "kernels": []}


def test_a_server_scores_choices(directory: Path) -> None:
    with serving(Served()) as url:
        (batch,) = answers(directory, asked("arc_easy", CHOICES), config(url))
    assert len(batch) == 4 and all(len(one.response.logprobs) == 2 for one in batch)
    assert all(value < 0 for one in batch for value in one.response.logprobs)


def test_a_server_without_room_is_refused(directory: Path) -> None:
    longest = answering.plan(directory, asked(), config("http://a")).longest
    with serving(Served(longest=longest)) as url:
        answers(directory, asked(), config(url))
    with serving(Served(longest=longest - 1)) as url, pytest.raises(ValueError, match=f"takes {longest - 1} tokens"):
        answers(directory, asked(), config(url))
