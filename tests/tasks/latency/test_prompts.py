"""Prompts of an exact length from a text, and the text that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tasks.latency.endpoint import Endpoint
from tasks.latency.prompts import CHARACTERS, SALT, Prompts, prompts_of, text_of

WHERE = Endpoint(url="http://a/v1", model="m", engine=None, version=None, longest=None, folder=None, cache={})


@pytest.mark.parametrize("length", [8, 11, 20])
def test_a_prompt_is_four_random_tokens_and_a_piece_of_the_text(length: int) -> None:
    tokens, starts = list(range(100, 120)), set[int]()
    for prompt in Prompts(tokens, 1).take(200, length):
        assert isinstance(prompt, list) and len(prompt) == length
        assert set(prompt[:4]) <= set(tokens)
        assert prompt[4:] == list(range(prompt[4], prompt[4] + length - 4))
        starts.add(prompt[4] - 100)
    assert (min(starts), max(starts)) == (0, 20 - (length - 4)), "the whole text is used"
    assert SALT == 4


def test_a_text_may_be_as_long_as_a_prompt() -> None:
    assert len(Prompts([1, 2, 3, 4, 5, 6, 7, 8], 1).take(1, 8)[0]) == 8
    with pytest.raises(ValueError, match="7 tokens, fewer than a prompt's 8"):
        Prompts([1, 2, 3, 4, 5, 6, 7], 1).take(1, 8)


@pytest.mark.parametrize(
    ("as_text", "decoder", "text"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_prompt_is_text_only_where_asked_and_possible(as_text: bool, decoder: bool, text: bool) -> None:
    drawn = Prompts(list(range(20)), 1, (lambda ids: " ".join(map(str, ids))) if decoder else None)
    (prompt,) = drawn.take(1, 8, as_text=as_text)
    assert isinstance(prompt, str) == text


def test_the_beginning_of_a_text_is_read(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("x" * CHARACTERS + "y")
    assert text_of(file) == "x" * 100_000
    assert 50_000 < len(text_of(None)) <= 100_000
    file.write_text(" \n")
    for bad, told in ((file, "which is empty"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ValueError, match=told):
            text_of(bad)


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        ({"tokens": [1, 2, 3]}, True),
        ({"tokens": [1, "2"]}, False),
        ({"tokens": "123"}, False),
        ({}, False),
        ([], False),
    ],
)
def test_the_servers_tokens_must_be_numbers(answer: Any, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, Any]]()

    class Answer:
        def json(self) -> Any:
            return answer

    def post(address: str, json: Any, **_: Any) -> Answer:
        asked.append((address, json["prompt"]))
        assert json["content"] == json["prompt"] and json["add_special_tokens"] is False
        return Answer()

    monkeypatch.setattr(requests, "post", post)
    if taken:
        assert prompts_of("abc", WHERE, None, 1).tokens == [1, 2, 3]
    else:
        with pytest.raises(ValueError, match="does not tokenize"):
            prompts_of("abc", WHERE, None, 1)
    assert asked == [("http://a/tokenize", "abc")]


def test_a_named_tokenizer_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"which has no tokenizer\.json"):
        prompts_of("abc", WHERE, tmp_path, 1)


def test_no_token_of_a_beginning_is_put_before_the_text(tmp_path: Path) -> None:
    """A prompt is a piece from the middle of it."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1, "b": 2}, unk_token="<s>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    words.save(str(tmp_path / "tokenizer.json"))
    assert prompts_of("a b b", WHERE, tmp_path, 1).tokens == [1, 2, 2]
