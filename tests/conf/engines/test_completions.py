"""Requests for completions, and what is read of the answers or refused in them."""

from __future__ import annotations

from typing import Any

import pytest

from conf.engines.completions import PLAIN, Wanted, Written, read_score, read_text, score_body, text_body

WANTED = Wanted(max_tokens=8, temperature=0.5, stops=("\n\n", "Q:"), ends=(2, 5))


def said(text: str, reason: str = "stop", tokens: int | None = 8, **more: Any) -> dict[str, Any]:
    usage = {"usage": {"completion_tokens": tokens}} if tokens is not None else {}
    return {"choices": [{"text": text, "finish_reason": reason, **more}], **usage}


@pytest.mark.parametrize(
    ("version", "takes"), [("vLLM 0.32.0", True), ("SGLang", True), ("llama.cpp", False), (None, False)]
)
def test_a_text_is_asked_for_by_its_ids(version: str | None, takes: bool) -> None:
    expected = {"model": "m", "prompt": [1, 7], "max_tokens": 8, "temperature": 0.5, "top_p": 1.0, "seed": 4}
    expected |= {"stop": ["\n\n", "Q:"]} | (PLAIN | {"stop_token_ids": [2, 5]} if takes else {})
    assert text_body("m", version, (1, 7), WANTED, 4) == expected


def test_nothing_is_asked_for_that_is_not_wanted() -> None:
    plain = Wanted(max_tokens=1, temperature=0.0, stops=(), ends=())
    assert "stop" not in text_body("m", "vLLM", [1], plain, 0)


def test_scores_are_asked_for_with_an_echo() -> None:
    body = score_body("m", [1, 7])
    assert body == {"model": "m", "prompt": [1, 7], "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}


@pytest.mark.parametrize(
    ("answer", "text", "stop"),
    [
        (said("fine"), "fine", "end"),
        (said("fine", stop_reason=2), "fine", "end"),
        (said("fine", stop_reason="Q:"), "fine", "stop"),
        (said("fine", "length"), "fine", "length"),
        (said("a\n\nb Q:", "length"), "a", "stop"),
        (said("a Q: b\n\n"), "a ", "stop"),
    ],
)
def test_how_a_text_ended(answer: Any, text: str, stop: Any) -> None:
    assert read_text(answer, WANTED) == Written(text=text, stop=stop, tokens=8)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (said("x", "length", 7), "cut an answer after 7 of 8 tokens; raise the server's limit"),
        (said("x", "abort"), r"broke an answer off \(finish_reason abort\)"),
        (said("x", tokens=None), "does not say how many tokens"),
    ],
)
def test_an_answer_that_is_not_whole_is_refused(answer: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_text(answer, WANTED)


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, {"choices": None}, [], None])
def test_other_json_is_no_completion(answer: Any) -> None:
    with pytest.raises((LookupError, TypeError, AttributeError)):
        read_text(answer, WANTED)


def scored(*values: float | None) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"token_logprobs": list(values)}}]}


def test_the_last_tokens_of_the_prompt_are_summed() -> None:
    generated = -9.0
    assert read_score(scored(None, -1.0, -2.0, -4.0, generated), 4, 2) == -6.0
    assert read_score(scored(None, -1.0, -2.0, -4.0), 4, 3) == -7.0


@pytest.mark.parametrize(
    "answer",
    [
        scored(None, -1.0),  # shorter than the prompt
        scored(None, -1.0, None),
        scored(-9.0),
        {"choices": [{"logprobs": None}]},
        {"choices": [{}]},
        {"choices": [{"logprobs": {"token_logprobs": None}}]},
    ],
)
def test_a_server_without_prompt_scores_is_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match="gives no log probabilities of a prompt's tokens"):
        read_score(answer, 3, 2)
