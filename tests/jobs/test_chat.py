"""Chatting with a model directory: what its chat template would lose is said before the model answers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conf.spec import Spec
from conf.stages.chat import ConverseConfig
from jobs import chat
from jobs.huggingface import model as hf
from jobs.huggingface import tokenizer
from tests.fixtures.jobs import refused, run_job

DROPPING = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + DROPPING


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer with random weights and a tokenizer without chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("model")
    tokenizer.train(iter(["a few words to say"] * 9), 270, directory)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=270, max_position_embeddings=64, **sizes, architectures=["LlamaForCausalLM"])
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "told"),
    [
        (DROPPING, "the chat template leaves out its system message"),
        (STRICT, "the chat template rejects it (no system here)"),
        ([{"name": "rag", "template": DROPPING}], "has the chat templates rag and none called default"),
    ],
)
def test_what_a_template_would_lose_is_refused(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], template: object, told: str
) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    config = {"prompt": "say a few words", "system": "Be brief.", "max_new_tokens": 2}
    assert told in refused("chat", config, {"model": model}, tmp_path / "out", capfd)


@pytest.mark.slow
def test_a_prompt_is_answered(model: Path, tmp_path: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": DROPPING}))
    run_job("chat", {"prompt": "say a few words", "max_new_tokens": 2}, {"model": model}, tmp_path / "out")


def test_lines_are_asked_until_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["one", " two ", "  ", "three"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert list(chat._prompts(ConverseConfig())) == ["one", " two "]
    assert list(chat._prompts(ConverseConfig(prompt="only"))) == ["only"]


def test_the_end_of_the_input_ends_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert list(chat._prompts(ConverseConfig())) == ["one", "two"]


@pytest.mark.parametrize("begins", [True, False])
def test_without_a_template_the_last_message_is_completed(begins: bool) -> None:
    """With the token that begins a text, where the tokenizer has one."""
    asked: list[bool] = []
    backend = SimpleNamespace(
        encode=lambda text, add_special_tokens: asked.append(add_special_tokens) or SimpleNamespace(ids=[len(text)])
    )
    given = SimpleNamespace(bos_token="<s>" if begins else None, backend_tokenizer=backend)
    messages = [{"role": "user", "content": "long ago"}, {"role": "user", "content": "say"}]
    assert chat._encode(given, None, messages) == [3]
    assert asked == [begins]


@pytest.mark.parametrize(("room", "tokens"), [(3, 3), (9, 5)])
def test_an_answer_ends_at_its_bound_or_the_models(
    room: int, tokens: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, words = hf.load_model(model, torch.float32), hf.load_tokenizer(model)
    ids = [5, 6, 7]
    answer = chat._answer(ConverseConfig(max_new_tokens=5), loaded, words, ids, len(ids) + room, [0])
    with torch.inference_mode():
        expected = ids[:]
        for _ in range(tokens):
            expected.append(int(loaded(torch.tensor([expected])).logits[0, -1].argmax()))
    assert 0 not in expected
    assert answer == words.decode(expected[3:])
    assert capsys.readouterr().out.strip() == answer.strip(), "it is written as it arrives, without the prompt"


class Generates:
    """A model that notes how it was asked."""

    device = "cpu"

    def generate(self, inputs: torch.Tensor, *, generation_config: object, streamer: Any, **_: object) -> torch.Tensor:
        self.asked = generation_config
        for tokens in (inputs, inputs[0, :1]):
            streamer.put(tokens)
        streamer.end()
        return torch.cat([inputs, inputs[:, :1]], dim=1)


@pytest.mark.parametrize(("temperature", "draws"), [(0.7, True), (0.0, False)])
def test_a_temperature_draws_tokens(temperature: float, draws: bool, model: Path) -> None:
    asked = Generates()
    config = ConverseConfig(temperature=temperature, max_new_tokens=9)
    chat._answer(config, asked, hf.load_tokenizer(model), [5, 6, 7], 8, [3])
    assert asked.asked.do_sample is draws  # type: ignore[attr-defined]
    assert asked.asked.max_new_tokens == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(("stop", "ends", "pad"), [([3, 9], [3, 9], 3), ([], None, 0)])
def test_a_model_ends_with_its_own_tokens(
    stop: list[int], ends: object, pad: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of which none is told."""
    asked: Any = Generates()
    words = hf.load_tokenizer(model)
    answer = chat._answer(ConverseConfig(), asked, words, [words.eos_token_id, 6], 9, stop)
    assert (asked.asked.eos_token_id, asked.asked.pad_token_id) == (ends, pad)
    assert answer == "" and capsys.readouterr().out.strip() == ""


def test_a_template_begins_the_answer(model: Path) -> None:
    words = hf.load_tokenizer(model)
    template = DROPPING + "{% if add_generation_prompt %} to say{% endif %}"
    expected = words.backend_tokenizer.encode("say a few to say", add_special_tokens=False).ids
    assert chat._encode(words, template, [{"role": "user", "content": "say a few"}]) == expected


@pytest.mark.parametrize(
    ("told", "longest"), [({}, 64), ({"max_position_embeddings": None}, 2048), ({"max_position_embeddings": 70}, 70)]
)
@pytest.mark.parametrize("fits", [True, False])
def test_a_conversation_must_leave_room_for_an_answer(
    told: dict[str, Any], longest: int, fits: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int] = []
    checked = hf.check(model)
    monkeypatch.setattr(hf, "check", lambda _: checked | told)
    monkeypatch.setattr(hf, "load_model", lambda *_: None)
    monkeypatch.setattr(chat, "_encode", lambda *_: list(range(longest - fits)))
    monkeypatch.setattr(chat, "_answer", lambda *given: answers.append(given[4]) or "")
    config = {"prompt": "say", "max_new_tokens": 2}
    spec = Spec(stage="chat", key="k", config=config, inputs={"model": str(model)}, output=str(tmp_path))
    if fits:
        chat.run(spec)
        assert answers == [longest]
    else:
        with pytest.raises(ValueError, match=f"has {longest} tokens but the model reads at most {longest}; start"):
            chat.run(spec)


def test_a_template_s_text_gets_no_special_tokens(model: Path) -> None:
    """The template writes them itself; a tokenizer that adds its own would write the first one twice."""
    from tokenizers.processors import TemplateProcessing

    words = hf.load_tokenizer(model)
    plain = words.backend_tokenizer.encode("say a few", add_special_tokens=False).ids
    words.backend_tokenizer.post_processor = TemplateProcessing(single="X $A", special_tokens=[("X", 7)])
    assert words.backend_tokenizer.encode("say a few").ids == [7, *plain]
    assert chat._encode(words, DROPPING, [{"role": "user", "content": "say a few"}]) == plain
